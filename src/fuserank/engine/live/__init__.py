"""Items that come, change and go while a bundle is served."""
