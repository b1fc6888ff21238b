"""The inference tool and its Python interface."""
