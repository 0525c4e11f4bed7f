"""The small model shipped with pixelmill, its scenes, and the script that trains it."""
