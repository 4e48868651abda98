"""Messages of the API: made, read, checked, and errors as their statuses."""
