"""The operator's verbs: each reads the catalog, calls one function of pipelines/, and shows the result."""
