"""What a run says: intervals, comparisons, measured inputs of the theory, predictions, failures."""
