"""From the inputs of a request to a job, and from its vectors to a reply."""
