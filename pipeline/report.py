def write_report(out: str) -> None:
    """placeholder"""
