"""Where greenicorn differs from gunicorn 26.1 on purpose: (pattern of GROUP/CASE: ITEM, why)."""

DIFFERENCES = []
