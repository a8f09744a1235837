"""What is learned and how it is judged: losses, predictions and metrics, and the baselines that a model has to beat."""
