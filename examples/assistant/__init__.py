"""An assistant that plans, uses tools over HTTP, looks at what came back, plans again, and sums up."""
