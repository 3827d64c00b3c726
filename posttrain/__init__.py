"""All logic of the pipeline; knows neither ZenML nor the steps."""
