"""`GET /predictions/{id}/result`, and what can be wrong with its answer."""

from urllib.parse import urljoin

from wavespeed_sandbox import urls
from wavespeed_sandbox.account import Account
from wavespeed_sandbox.faults import Fault
from wavespeed_sandbox.forms import in_form
from wavespeed_sandbox.models import JsonObject
from wavespeed_sandbox.predictions import LIFETIME, Prediction
from wavespeed_sandbox.wire import Response, json_response


def prediction_json(account: Account, prediction: Prediction, *, now: float | None = None) -> JsonObject:
    """The prediction as the provider shows it at `now`, which is the clock's unless it is given."""
    output = prediction.element or urls.output_url(account, prediction)
    return prediction.as_json(account.clock.now() if now is None else now, api_url=account.api_url, output=output)


def result(account: Account, prediction_id: str) -> Response:
    prediction = account.predictions.find(prediction_id)
    if prediction is None or account.clock.now() > prediction.submitted_at + LIFETIME:
        return json_response({"code": 404, "message": "prediction not found"}, 404)
    if not prediction.made:
        account.workshop.ordered(prediction.id)
    data = prediction_json(account, prediction)
    subject = {
        "model": prediction.model.model_id,
        "prediction": prediction.id,
        "prompt": str(prediction.inputs.get("prompt", "")),
    }
    fault = account.faults.take("result", subject)
    if fault:
        return _faulty(fault, data)
    return json_response({"code": 200, "message": "success", "data": data})


def _faulty(fault: Fault, data: JsonObject) -> Response:
    match fault.kind:
        case "result_404":
            return json_response({"code": 404, "message": "prediction not found"}, 404)
        case "result_429":
            return json_response({"code": 429, "message": "Too Many Requests"}, 429)
        case "result_500":
            return json_response({"code": 500, "message": "Internal Server Error"}, 500)
        case "result_drop":
            return Response(silent=True)
        case "result_garbage":
            return Response(200, b"<html><body>bad gateway", "text/html")
        case "result_error_code":
            return json_response({"code": int(fault["code"]), "message": fault["message"], "data": None})
    if fault.kind == "result_bare":
        return json_response(data)
    envelope = {"code": 200, "message": "success", "data": _disfigured(fault, data)}
    return json_response(envelope, delay=float(fault["seconds"]) if fault.kind == "result_timeout" else 0.0)


def _disfigured(fault: Fault, data: JsonObject) -> JsonObject:
    match fault.kind:
        case "result_unknown_status":
            return data | {"status": fault["status"], "outputs": []}
        case "result_false_failure":
            return data | {"status": "failed", "code": 5000, "error": "internal error", "outputs": []}
        case "result_null_outputs":
            return data | {"outputs": None}
        case "result_null_nsfw":
            return data | {"has_nsfw_contents": None}
        case "result_no_timings":
            return {key: value for key, value in data.items() if key != "timings"}
        case "result_extra_fields":
            return data | {"executionTime": 1234, "logs": ["step 1"], "meta": {"seed": 7}}
        case "result_object_outputs":
            return data | {"outputs": [{"url": url, "type": "video"} for url in data["outputs"]]}
        case "result_word" if data["status"] == "completed":
            return data | {"status": fault["status"]}
        case "result_form":
            return in_form(fault["form"], data)
        case "result_no_outputs" if data["status"] == "completed":
            return data | {"outputs": [], "has_nsfw_contents": [True] if fault["flagged"] else []}
        case "result_error_object" if data["error"]:
            return data | {"error": {"error": {"message": data["error"], "type": "task_error"}}}
        case "result_absurd":
            return data | {"timings": {"inference": "1e1000000"}, "created_at": "9999-12-31T23:59:59Z", "code": 10**50}
        case "result_other_id":
            return data | {"id": "f" * 32}
        case "result_beside":
            return data | {"outputs": _beside(data["outputs"], fault["what"], before=fault["before"])}
        case "result_odd_address":
            return data | {"outputs": [_odd(url, fault["how"]) for url in data["outputs"]]}
    return data


def _beside(outputs: list[str], what: str, *, before: bool) -> list[str]:
    names = {"cover": "cover.jpg", "page": "page.html"}
    others = [url if what == "twin" else urljoin(url, names[what]) for url in outputs]
    return [*others, *outputs] if before else [*outputs, *others]


def _odd(url: str, how: str) -> str:
    return f" {url}\r\n" if how == "spaced" else url.partition(":")[2]
