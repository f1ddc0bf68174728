"""Where pusher-js with ``enableStats`` reports to: it is answered, and nothing is kept.

Source: pusher-js 8, ``runtimes/*/timeline``.
"""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe


@login_not_required
@require_safe
def jsonp(request: HttpRequest, receiver: int) -> HttpResponse:
    """``GET /timeline/v2/jsonp/<receiver>``: a script that says so to the page."""
    script = f"Pusher.ScriptReceivers[{receiver}](null,{{}});"
    return HttpResponse(script, content_type="application/javascript")


@login_not_required
@require_safe
def xhr(request: HttpRequest) -> HttpResponse:
    """``GET /timeline/v2/xhr/2``: for workers and Node, of any origin."""
    return JsonResponse({}, headers={"Access-Control-Allow-Origin": "*"})
