"""Video: frame readers, pose pipelines, tracking, smoothing, and writers."""
