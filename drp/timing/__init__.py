"""The trigger source of a partition: pulses and transitions out, credit in."""
