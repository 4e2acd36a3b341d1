"""As the documentation of Django, DRF and gunicorn advises for speed: nothing is switched on that no request needs.

What the bench decides comes through the environment.
"""

import os
from urllib.parse import urlsplit

SECRET_KEY = os.urandom(32).hex()  # Nothing is signed.
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "bench"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["rest_framework", "shop"]
# No sessions, no cookies, no pages: of the middleware, only what tells the length of an answer has anything to do.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
APPEND_SLASH = False
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

database = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": database.hostname,
        "PORT": database.port,
        "USER": database.username,
        "PASSWORD": database.password,
        "NAME": database.path[1:],
        # Each thread keeps its connection. Django's pool does the same with a little more work for each request.
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # Statements are prepared by Postgres once, which Django leaves out unless it is told.
            "server_side_binding": True,
            "prepare_threshold": 1,
        },
    }
}

# Rows that were read stay in the memory of the process that has read them. Nothing tells the others when one
# changes: `SECONDS_CACHED` is how old an answer may be.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
SECONDS_CACHED = int(os.environ.get("SECONDS_CACHED", "0"))

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
