"""Workers: the Celery app that serves AOS_APP, and its configuration. Deployment code, see README.md."""
