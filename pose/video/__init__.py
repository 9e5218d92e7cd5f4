"""Video: readers, writers, tracking, smoothing and the pipeline that joins them."""
