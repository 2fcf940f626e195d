"""Reports on deployments: a ModelRollout with its status in, Markdown, SVG and JSON lines out. Pure."""
