"""What predicted masks are worth: functions on arrays. What they count adds up exactly."""
