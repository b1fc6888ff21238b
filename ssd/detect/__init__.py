"""Detection on the user's own images, videos and cameras."""
