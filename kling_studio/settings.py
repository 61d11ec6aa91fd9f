"""Every setting of the studio, from the environment; `.env.example` lists the variables with defaults and units."""

import logging
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import structlog
from environs import EnvError, validate

from kling_studio import environment, headers, logs, object_storage
from kling_studio.environment import above_zero, at_least_one, env

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = BASE_DIR / ".env"
env.read_env(ENV_FILE, recurse=False)

STUDIO_HOME = (BASE_DIR / env.path("STUDIO_HOME", default=Path("var"))).resolve()
try:
    STUDIO_HOME.mkdir(parents=True, exist_ok=True)
except OSError as error:
    raise EnvError(
        f'Environment variable "STUDIO_HOME" invalid: {STUDIO_HOME} can not be made ({error.strerror}).'
    ) from error
INSECURE_SECRET_KEY = "insecure-key-for-development-only"  # noqa: S105 - checked: an error with DEBUG off
STUDIO_SECRET_KEY_FILE = STUDIO_HOME / "secret_key"

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or (
    STUDIO_SECRET_KEY_FILE.read_text().strip() if STUDIO_SECRET_KEY_FILE.is_file() else INSECURE_SECRET_KEY
)
# Earlier keys, by which what they signed stays valid while a new one takes over.
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", default=[], subcast=str.strip)
ALLOWED_HOSTS: list[str] = env.list(
    "ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"], subcast=str.strip, validate=environment.host_names
)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[], subcast=str.strip)
PUBLIC_URL = env.str(
    "PUBLIC_URL", default="http://127.0.0.1:8000", validate=[environment.origin, validate.Length(min=1)]
).rstrip("/")
# Unless somebody says it, the embedded mode takes the port that it listens at.
PUBLIC_URL_IS_SET = not {"PUBLIC_URL", "PUBLIC_URL_FILE"}.isdisjoint(os.environ)

INSTALLED_APPS = [
    "django_dramatiq",
    "kling_studio",
    "projects",
    "generations",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_standardized_errors",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_structlog",
    "csp",
    "axes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "kling_studio.headers.HeadersMiddleware",
    "kling_studio.unanswered.UnreadableAddresses",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "kling_studio.metrics.RequestMiddleware",
    "axes.middleware.AxesMiddleware",
    "kling_studio.unanswered.AwayMiddleware",
]

ROOT_URLCONF = "kling_studio.urls"
CSRF_FAILURE_VIEW = "kling_studio.error_pages.csrf_failure"
WSGI_APPLICATION = "kling_studio.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- What is kept -----------------------------------------------------------------------------------------------------

DATABASES = {"default": env.dj_db_url("DATABASE_URL", default=f"sqlite:///{quote(str(STUDIO_HOME))}/studio.sqlite3")}
_conn_max_age = env.int("DATABASE_CONN_MAX_AGE", default=60, validate=validate.Range(min=0))
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # FULL, not NORMAL: with NORMAL a power cut can roll back a commit, and a `submitting` that is `queued` again is paid twice.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["CONN_MAX_AGE"] = _conn_max_age
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
else:
    raise EnvError("DATABASE_URL: Use sqlite:///file or postgres://user:password@host:5432/name.")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MEDIA_URL_SECONDS = env.int("MEDIA_URL_SECONDS", default=3600, validate=validate.Range(min=60))
STORAGE_URL = env.str("STORAGE_URL", default=f"file://{quote(str(STUDIO_HOME))}/media")
STORAGES = {
    "default": object_storage.entry(STORAGE_URL, url_seconds=MEDIA_URL_SECONDS),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# What stays free on each disk beside what the videos on their way need: below it, nothing is submitted.
STORAGE_ROOM_MEGABYTES = env.int("STORAGE_ROOM_MEGABYTES", default=500, validate=validate.Range(min=0))
MEDIA_URL = "/media/"
STATIC_URL = "/static/"
STATIC_ROOT = STUDIO_HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns without it, though the embedded mode needs no `collectstatic`
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

TRASH_DAYS = env.int("TRASH_DAYS", default=30, validate=at_least_one)
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_MEGABYTES", default=50, validate=validate.Range(min=1, max=500)) * 1_000_000
MAX_IMAGE_PIXELS = env.int("MAX_IMAGE_MEGAPIXELS", default=220, validate=validate.Range(min=1, max=500)) * 1_000_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
# Pictures and videos are read in processes of their own (projects/limited.py): of each file, and how many on a machine at once.
READING_SECONDS = env.int("READING_SECONDS", default=30, validate=validate.Range(min=1, max=600))
READING_MEGABYTES = env.int("READING_MEGABYTES", default=3000, validate=validate.Range(min=500))
READING_AT_ONCE = env.int("READING_AT_ONCE", default=2, validate=validate.Range(min=1, max=64))

# --- Work -------------------------------------------------------------------------------------------------------------

DRAMATIQ_BROKER_URL = env.str("DRAMATIQ_BROKER_URL", default="stub://")
DRAMATIQ_BROKER = {
    **environment.broker(DRAMATIQ_BROKER_URL),
    "MIDDLEWARE": [
        "kling_studio.processes.actors.ActorLines",
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.ShutdownNotifications",
        "dramatiq.middleware.Callbacks",
        "dramatiq.middleware.Retries",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
    ],
}
# Counts tries: `projects.people.throttling`, and the API's throttle.
CACHE_URL = env.str(
    "CACHE_URL", default=DRAMATIQ_BROKER_URL if DRAMATIQ_BROKER_URL.startswith("redis") else "memory://"
)
CACHES = {"default": environment.cache(CACHE_URL)}
DRAMATIQ_AUTODISCOVER_MODULES = ["tasks"]
# Rows that were sent to a worker look due again after this, in case the message is lost.
REDELIVERY_SECONDS = env.float("REDELIVERY_SECONDS", default=30.0, validate=above_zero)
# How much longer a step holds its row than its calls may take, and how long a download does between two signs of life.
LEASE_MARGIN_SECONDS = env.float("LEASE_MARGIN_SECONDS", default=10.0, validate=above_zero)
STORE_LEASE_SECONDS = env.float("STORE_LEASE_SECONDS", default=60.0, validate=above_zero)
# A download that brings less than so many kilobytes a second, over so many seconds, is ended and tried again later; 0: however slow.
STORE_LEAST_KILOBYTES_PER_SECOND = env.int(
    "STORE_LEAST_KILOBYTES_PER_SECOND", default=20, validate=validate.Range(min=0)
)
STORE_SLOW_SECONDS = env.float("STORE_SLOW_SECONDS", default=30.0, validate=above_zero)
# What no video passes, for each second that it lasts; four times what room is kept for.
STORE_MOST_MEGABYTES_PER_SECOND = env.int("STORE_MOST_MEGABYTES_PER_SECOND", default=40, validate=at_least_one)
# How long a finished video may not be stored before its owners are told.
STORE_MINUTES_UNTIL_TOLD = env.float("STORE_MINUTES_UNTIL_TOLD", default=2.0, validate=above_zero)
# In the embedded mode, for each of: submits and results, downloads, all else.
WORKER_THREADS = env.int("WORKER_THREADS", default=8, validate=at_least_one)

# --- The provider -----------------------------------------------------------------------------------------------------

SANDBOX_PORT = env.int("SANDBOX_PORT", default=8055, validate=validate.Range(min=1, max=65535))
SANDBOX_SPEED = env.float("SANDBOX_SPEED", default=10.0, validate=above_zero)
SANDBOX_RESOLUTION = env.str(
    "SANDBOX_RESOLUTION", default="2160p", validate=validate.OneOf(["2160p", "1080p", "720p", "180p"])
)
WAVESPEED_API_KEY = env.str("WAVESPEED_API_KEY", default="")
# Without a key the sandbox is the provider, and every page says so.
WAVESPEED_SANDBOX = not WAVESPEED_API_KEY
# Stands in FOCUS exports, which name the billing account.
WAVESPEED_ACCOUNT_ID = env.str("WAVESPEED_ACCOUNT_ID", default="wavespeed", validate=validate.Length(min=1))
_base_url = env.str("WAVESPEED_BASE_URL", default="", validate=environment.safe_origin).rstrip("/")
WAVESPEED_BASE_URL = _base_url or (
    f"http://127.0.0.1:{SANDBOX_PORT}" if WAVESPEED_SANDBOX else "https://api.wavespeed.ai"
)
# The embedded mode starts the sandbox itself, unless another one is named.
SANDBOX_EMBEDDED = WAVESPEED_SANDBOX and not _base_url
WAVESPEED_WEBHOOK_BASE_URL = env.str("WAVESPEED_WEBHOOK_BASE_URL", default="", validate=environment.origin).rstrip("/")
WAVESPEED_WEBHOOK_SECRET = env.str("WAVESPEED_WEBHOOK_SECRET", default="")
WAVESPEED_VIDEOS_PER_MINUTE = env.int("WAVESPEED_VIDEOS_PER_MINUTE", default=2, validate=at_least_one)
WAVESPEED_VIDEOS_AT_ONCE = env.int("WAVESPEED_VIDEOS_AT_ONCE", default=2, validate=at_least_one)
WAVESPEED_CONNECT_TIMEOUT = env.float("WAVESPEED_CONNECT_TIMEOUT", default=10.0, validate=above_zero)
WAVESPEED_READ_TIMEOUT = env.float("WAVESPEED_READ_TIMEOUT", default=30.0, validate=above_zero)
WAVESPEED_DEADLINE = env.float("WAVESPEED_DEADLINE", default=120.0, validate=above_zero)
WAVESPEED_REFUND_HOURS = env.float("WAVESPEED_REFUND_HOURS", default=4.0, validate=above_zero)
# Minutes in which nobody can say of an unclear request that it was not made: the provider's list may lag.
UNCONFIRMED_MINUTES = env.float("UNCONFIRMED_MINUTES", default=15.0, validate=above_zero)
# Whether others make videos on the same account at the provider: then what nobody here asked for is theirs.
WAVESPEED_ACCOUNT_IS_SHARED = env.bool("WAVESPEED_ACCOUNT_IS_SHARED", default=False)
WAVESPEED_LIVE_PRICES = env.bool("WAVESPEED_LIVE_PRICES", default=False)
WAVESPEED_POLL_SECONDS = env.float("WAVESPEED_POLL_SECONDS", default=5.0, validate=above_zero)

# --- People -----------------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# Failed logins with one name from one address, and the minutes that they close it for. Counted in the database.
LOGIN_FAILURES = env.int("LOGIN_FAILURES", default=5, validate=at_least_one)
LOGIN_LOCK_MINUTES = env.int("LOGIN_LOCK_MINUTES", default=15, validate=at_least_one)
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = LOGIN_FAILURES
AXES_COOLOFF_TIME = timedelta(minutes=LOGIN_LOCK_MINUTES)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "projects.people.throttling.client_ip"
AXES_USERNAME_CALLABLE = "projects.people.throttling.tried_username"
AXES_LOCKOUT_CALLABLE = "projects.people.throttling.locked_out"
AXES_RESET_ON_SUCCESS = True
# The page says when it ends, so that tries meanwhile don't move it.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
INVITATION_DAYS = env.int("INVITATION_DAYS", default=7, validate=at_least_one)
APPROVAL_DAYS = env.int("APPROVAL_DAYS", default=7, validate=at_least_one)
TOKEN_DAYS = env.int("TOKEN_DAYS", default=90, validate=at_least_one)

_email = env.dj_email_url("EMAIL_URL", default="console://")
if "EMAIL_BACKEND" not in _email:
    raise EnvError("EMAIL_URL: Use submission://user:password@host:587, smtp://host:25 or console://.")
EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = _email["EMAIL_BACKEND"], _email["EMAIL_HOST"], _email["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _email["EMAIL_HOST_USER"], _email["EMAIL_HOST_PASSWORD"]
EMAIL_USE_TLS, EMAIL_USE_SSL, EMAIL_FILE_PATH = (
    _email["EMAIL_USE_TLS"],
    _email["EMAIL_USE_SSL"],
    _email["EMAIL_FILE_PATH"],
)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="kling_studio <studio@localhost>")
DIGEST_MINUTES = env.int("DIGEST_MINUTES", default=10, validate=at_least_one)
ALERT_BALANCE_DAYS = env.int("ALERT_BALANCE_DAYS", default=7, validate=at_least_one)

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
# What time it is for money. No setting for people: tests name another, as time-machine can't move PostgreSQL's clock.
MONEY_CLOCK = "projects.clock.of_database"
USE_THOUSAND_SEPARATOR = False

# --- Headers ----------------------------------------------------------------------------------------------------------

HTTPS = PUBLIC_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("TRUST_FORWARDED_PROTO", default=False) else None
)
# How many proxies of ours write X-Forwarded-For; with 0 nobody's word is taken for the address of a client.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0, validate=validate.Range(min=0, max=10))
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
MEDIA_ORIGINS: list[str] = env.list("MEDIA_ORIGINS", default=[], subcast=str.strip, validate=environment.origins)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": headers.of_pages([*object_storage.sources(STORAGE_URL), *MEDIA_ORIGINS], https=HTTPS)
}

# --- Admin ------------------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "kling_studio",
    "SITE_HEADER": "kling_studio",
    "SITE_SYMBOL": "movie_filter",
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "generations.admin.navigation.environment",
    "GLOBAL_CALLBACK": "generations.admin.navigation.every_page",
    "DASHBOARD_CALLBACK": "generations.admin.dashboard.dashboard",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "generations.admin.navigation.favicon"}],
    "STYLES": ["generations.admin.navigation.colours_url", "generations.admin.navigation.style"],
    "SCRIPTS": ["generations.admin.navigation.script"],
    "SIDEBAR": {"show_search": False, "navigation": "generations.admin.navigation.sidebar"},
}

# --- API --------------------------------------------------------------------------------------------------------------

# How requests are read and refused is one class, `projects.api.base.views.Api`, which every view is built on.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    # It describes what a view can read as what it takes; the schema is the description.
    "DEFAULT_METADATA_CLASS": None,
    "COERCE_DECIMAL_TO_STRING": True,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "NUM_PROXIES": TRUSTED_PROXIES,
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=TOKEN_DAYS), "TOKEN_LIMIT_PER_USER": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "kling_studio",
    "DESCRIPTION": "Source images become Kling O3 4K videos; every cent stands on a project's books.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "StatusEnum": "generations.models.Status",
        "ImageTypeEnum": "projects.api.serializers.IMAGE_TYPES",
        "VideoTypeEnum": "generations.api.serializers.VIDEO_TYPES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "projects.api.base.answers.add_components",
    ],
}

# --- Watching ---------------------------------------------------------------------------------------------------------

# Lets Prometheus read /metrics; without it only studio owners may, signed in.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# Where the processes of a machine count (generations/counters.py); the library takes it from there alone.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(STUDIO_HOME / "metrics")
# For probes and Prometheus, which come from inside and follow no redirect to HTTPS.
SECURE_REDIRECT_EXEMPT = ["^(livez|readyz|metrics)$"]

# --- Logs -------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str(
    "LOG_LEVEL", default="INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
)
LOG_FORMAT = env.str("LOG_FORMAT", default="console", validate=validate.OneOf(["console", "json"]))
# The line of a request. What broke has one of its own, `request_failed`; what we refuse is told where it is refused.
DJANGO_STRUCTLOG_STATUS_5XX_LOG_LEVEL = logging.INFO
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": logs.formatter(structlog.processors.JSONRenderer()),
        "console": logs.formatter(structlog.dev.ConsoleRenderer(colors=False)),
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # boto3 and urllib3 write signed URLs and headers at DEBUG.
        "boto3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "s3transfer": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        "PIL": {"level": "WARNING"},
        "dramatiq": {"level": "WARNING"},
        # It warns of each request that waits for a thread.
        "waitress.queue": {"level": "ERROR"},
        # A line a request, a message, a move and a booking are for machines.
        "django_structlog": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        "kling_studio.processes.actors": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        "generations.moves": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        "projects.money.spend": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
    },
}
logs.configure()
