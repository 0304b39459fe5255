"""The API's types. A request is valid when it converts to its Struct; inside the server there are only these types."""
