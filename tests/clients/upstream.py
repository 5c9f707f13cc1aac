# SPDX-License-Identifier: Apache-2.0
"""A fake upstream that speaks OpenAI's and Anthropic's dialects, for the official clients' sake.

Answers depend on the question only: "tool" in the last message asks for a tool call, else text.
"""
import http.server
import json
import socketserver
import threading

TOOL_ARGS = {"city": "Paris", "unit": "c"}


def last_text(body):
    items = body.get("messages") or body.get("input") or body.get("prompt") or ""
    if isinstance(items, str):
        return items
    content = items[-1].get("content", "") if isinstance(items[-1], dict) else items[-1]
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", part.get("content", ""))) for part in content)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events, named):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            text = event if isinstance(event, str) else json.dumps(event)
            line = (f"event: {event['type']}\n" if named else "") + f"data: {text}\n\n"
            data = line.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body))
        text = last_text(body)
        if "refuse" in text:
            error = {"message": "no thanks", "type": "invalid_request_error", "code": "refused"}
            self.reply({"type": "error", "error": error}, 400)
        elif self.path.endswith("/chat/completions"):
            self.chat(body, "tool" in text)
        elif self.path.endswith("/messages"):
            self.messages(body, "tool" in text)
        elif self.path.endswith("/embeddings"):
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            self.reply({"object": "list", "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2},
                        "data": [{"object": "embedding", "index": i, "embedding": [0.5, float(len(x))]}
                                 for i, x in enumerate(inputs)]})
        else:
            self.reply({"error": {"message": "no such path"}}, 404)

    def chat(self, body, tool):
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        call = {"id": "call_up", "type": "function",
                "function": {"name": "weather", "arguments": json.dumps(TOOL_ARGS)}}
        finish = "tool_calls" if tool else "stop"
        head = {"id": "chatcmpl-up", "created": 1, "model": "m-1"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": None if tool else "Hello there."}
            if tool:
                message["tool_calls"] = [call]
            self.reply({**head, "object": "chat.completion", "usage": usage,
                        "choices": [{"index": 0, "message": message, "finish_reason": finish}]})
            return

        def chunk(delta, finish_reason=None):
            return {**head, "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
        events = [chunk({"role": "assistant", "content": None if tool else ""})]
        if tool:
            args = call["function"]["arguments"]
            events.append(chunk({"tool_calls": [{"index": 0, **call, "function": {"name": "weather", "arguments": ""}}]}))
            events += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": args[i:i + 7]}}]})
                       for i in range(0, len(args), 7)]
        else:
            events += [chunk({"content": c}) for c in ("Hel", "lo ", "there.")]
        events.append(chunk({}, finish))
        if body.get("stream_options", {}).get("include_usage"):
            events.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        self.stream(events + ["[DONE]"], False)

    def messages(self, body, tool):
        usage = {"input_tokens": 7, "output_tokens": 3}
        block = ({"type": "tool_use", "id": "toolu_up", "name": "weather", "input": TOOL_ARGS} if tool
                 else {"type": "text", "text": "Hello there."})
        stop = "tool_use" if tool else "end_turn"
        head = {"id": "msg_up", "type": "message", "role": "assistant", "model": "m-1", "stop_sequence": None}
        if not body.get("stream"):
            self.reply({**head, "content": [block], "stop_reason": stop, "usage": usage})
            return
        start = {**block, "input": {}} if tool else {"type": "text", "text": ""}
        if tool:
            args = json.dumps(TOOL_ARGS)
            deltas = [{"type": "input_json_delta", "partial_json": args[i:i + 7]} for i in range(0, len(args), 7)]
        else:
            deltas = [{"type": "text_delta", "text": c} for c in ("Hel", "lo ", "there.")]
        self.stream([
            {"type": "message_start", "message": {**head, "content": [], "stop_reason": None,
                                                  "usage": {"input_tokens": 7, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "ping"},
            *[{"type": "content_block_delta", "index": 0, "delta": d} for d in deltas],
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
             "usage": {"output_tokens": 3}},
            {"type": "message_stop"}], True)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.seen = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def count(self):
        with self.lock:
            return len(self.seen)
