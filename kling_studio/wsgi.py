from django.core.wsgi import get_wsgi_application

from kling_studio.processes.startup import WORKER_BOOT_ERROR, load_settings, require_no_check_errors

load_settings(WORKER_BOOT_ERROR)
application = get_wsgi_application()
require_no_check_errors(WORKER_BOOT_ERROR)
