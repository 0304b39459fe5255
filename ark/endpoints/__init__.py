"""Endpoints: functions from a request to a reply. None of them knows `receive` or `send`."""
