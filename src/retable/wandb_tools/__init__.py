"""W&B afterwards: upload what lies here, get back what lies there, dashboards."""
