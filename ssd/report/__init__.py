"""The report: metrics, charts, gallery and pages."""
