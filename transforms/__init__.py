"""What happens to a shard: formats, decoding, masks, metrics, storage, and Beam."""
