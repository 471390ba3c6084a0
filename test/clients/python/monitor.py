"""A plain monitoring script, as teams write them: one POST with httpx, the
answer's usage read with .get, latency, a record. It is strict where such
scripts are: a usage of null, a body that is not JSON or an error without a
body would break it."""
import os
import time

import httpx

URL = os.environ["SHEEPGATE_URL"]
KEY = os.environ["SHEEPGATE_KEY"]


def call(model, key=KEY):
    start = time.time()
    with httpx.Client(base_url=URL, timeout=60.0) as client:
        response = client.post(
            "/v1/chat/completions",
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            json={"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100},
        )
    record = {"model": model, "latency_ms": round((time.time() - start) * 1000, 2), "headers": response.headers}
    if response.status_code != 200:
        return {**record, "status": "error", "error_code": response.status_code, "error": response.json()["error"]}
    data = response.json()
    usage = data.get("usage", {})
    return {
        **record,
        "status": "success",
        "response_id": data.get("id"),
        "content": data["choices"][0]["message"]["content"],
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
    }


def row(call_id):
    """The Call as stored, which may take a second."""
    for _ in range(20):
        r = httpx.get(f"{URL}/api/v1/calls/{call_id}", headers={"Authorization": f"Bearer {KEY}"})
        if r.status_code == 200:
            return r.json()
        time.sleep(0.1)
    raise AssertionError(f"call {call_id}: {r.status_code} {r.text[:200]}")


for model in ("gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash"):
    got = call(model)
    assert got["status"] == "success", got
    assert got["content"] and got["response_id"], got
    assert got["input_tokens"] > 0 and got["output_tokens"] > 0, got
    assert got["total_tokens"] == got["input_tokens"] + got["output_tokens"], got
    stored = row(got["headers"]["Sheepgate-Call-Id"])
    assert stored["model"] == model, stored
    assert stored["usage"]["input_tokens"] == got["input_tokens"], (stored, got)
    assert stored["usage"]["output_tokens"] == got["output_tokens"], (stored, got)
    assert stored["cost_nano_usd"] > 0, stored
    print(model, got["latency_ms"], "ms", got["total_tokens"], "tokens", stored["cost_nano_usd"], "nano-USD")

wrong = call("gpt-4.1", key="wrong")
assert wrong["error_code"] == 401 and set(wrong["error"]) == {"message", "type", "param", "code"}, wrong
missing = call("no-such-model")
assert missing["error_code"] == 404 and missing["error"]["code"] == "model_not_found", missing
print("ok")
