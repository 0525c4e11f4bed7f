"""What `pixelmill plan` prints."""

from pipeline.dataflow.preflight import GRAPH_LIMIT_BYTES, Preflight


def plan_text(found: Preflight) -> str:
    """The plan for people: what would be launched, what is wrong, what it takes."""
    lines = [f"plan: {found.job} by {found.runner} -> {found.output}"]
    if inputs := found.inputs:
        about = "" if inputs["images_are_exact"] else "about "
        size = f", {inputs['bytes'] / 1e6:,.1f} MB" if inputs["bytes"] else ""
        lines.append(
            f"  input    {about}{inputs['images']:,} images in {inputs['shards']:,} shards{size}; "
            f"{inputs['committed']:,} shards are committed already"
        )
    if model := found.model:
        lines.append(
            f"  trial    {model['images'] - model['failed']} of {model['images']} images done "
            f"here; model {model['model_s'] * 1e3:,.1f} ms, reading and coding "
            f"{model['codec_s'] * 1e3:,.1f} ms an image"
        )
    if found.graph_bytes:
        lines.append(
            f"  graph    {found.graph_bytes / 1e3:,.0f} kB of at most "
            f"{GRAPH_LIMIT_BYTES / 1e6:.0f} MB; the work can be pickled"
        )
    lines += [f"  option   {name}={value}" for name, value in found.options.items() if value]
    if (made := found.estimate) is not None:
        dollars = "at an unknown price" if made.usd is None else f"${made.usd:,.2f}"
        lines.append(
            f"  takes    {_duration(made.hours)} with {made.workers:,} workers of "
            f"{made.worker_images_per_s:,.1f} images/s each: {made.worker_hours:,.2f} worker "
            f"hours, {dollars} (prices of {made.prices_of})"
        )
    lines += [f"  WARNING  {warning}" for warning in found.warnings]
    lines += [f"  PROBLEM  {problem}" for problem in found.problems]
    lines.append("it can be launched" if found.ok else "it cannot be launched")
    return "\n".join(lines)


def _duration(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
