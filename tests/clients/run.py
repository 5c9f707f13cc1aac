# SPDX-License-Identifier: Apache-2.0
"""The official clients against larder: python run.py LARDER. Ends with 'N passed, N failed'.

Every test runs for both upstream dialects, and each question is asked until it comes from the cache:
the cached answer must look to the client as the first one did. A model of this machine, with random
weights, answers the last ones.
"""
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback

import anthropic
import openai

from upstream import Server, TOOL_ARGS

OPENAI_TOOL = {"type": "function", "function": {
    "name": "weather", "description": "the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
ANTHROPIC_TOOL = {"name": "weather", "description": "the weather of a city",
                  "input_schema": {"type": "object", "properties": {"city": {"type": "string"}},
                                   "required": ["city"]}}


class House:
    def __init__(self, program, dialect):
        self.dialect = dialect
        self.upstream = Server()
        self.dir = tempfile.TemporaryDirectory()
        config = self.dir.name + "/larder.yaml"
        with open(config, "w") as f:
            if dialect == "local":
                nano = self.dir.name + "/nano.gguf"
                subprocess.run([program, "model", "random", "--like", "nano", "--out", nano], check=True,
                               stdout=subprocess.DEVNULL)
                f.write(f"model: [{nano}]\n")
            else:
                f.write(f"upstreams:\n  - url: http://127.0.0.1:{self.upstream.server_port}\n"
                        f"    dialect: {dialect}\n")
        self.process = subprocess.Popen(
            [program, "serve", "--config", config, "--listen", "127.0.0.1:0", "--data", self.dir.name + "/data"],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", line).group(1))
        self.openai = openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="sk-mine", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.port}", api_key="sk-mine", max_retries=0)

    def close(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, "larder ended badly"
        self.dir.cleanup()


def twice(house, ask):
    """Asks, then asks until the upstream is not asked any more; returns both answers."""
    first = ask()
    for _ in range(200):
        before = house.upstream.count()
        again = ask()
        if house.upstream.count() == before:
            return first, again
        time.sleep(0.01)
    raise AssertionError("never from the cache")


def openai_whole(h):
    def ask():
        return h.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    for r in twice(h, ask):
        assert r.choices[0].message.content == "Hello there."
        assert r.choices[0].finish_reason == "stop" and r.usage.completion_tokens == 3


def openai_stream(h):
    def ask():
        chunks = list(h.openai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi stream"}], stream=True,
            stream_options={"include_usage": True}))
        return ("".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
                [c.choices[0].finish_reason for c in chunks if c.choices][-1], chunks[-1].usage.total_tokens)
    for r in twice(h, ask):
        assert r == ("Hello there.", "stop", 10), r


def openai_tools(h):
    def ask():
        return h.openai.chat.completions.create(model="m", tools=[OPENAI_TOOL],
                                                messages=[{"role": "user", "content": "use the tool"}])
    for r in twice(h, ask):
        call = r.choices[0].message.tool_calls[0]
        assert call.function.name == "weather" and json.loads(call.function.arguments) == TOOL_ARGS
        assert r.choices[0].finish_reason == "tool_calls"
    follow = [{"role": "user", "content": "use the tool"}, r.choices[0].message.model_dump(exclude_none=True),
              {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    r = h.openai.chat.completions.create(model="m", tools=[OPENAI_TOOL], messages=follow)
    assert r.choices[0].message.content == "Hello there."


def openai_tools_stream(h):
    def ask():
        args, name = "", None
        for c in h.openai.chat.completions.create(model="m", tools=[OPENAI_TOOL], stream=True,
                                                  messages=[{"role": "user", "content": "tool stream"}]):
            for t in (c.choices[0].delta.tool_calls or []) if c.choices else []:
                name = t.function.name or name
                args += t.function.arguments or ""
        return name, json.loads(args)
    for r in twice(h, ask):
        assert r == ("weather", TOOL_ARGS), r


def anthropic_whole(h):
    def ask():
        return h.anthropic.messages.create(model="m", max_tokens=50, system="be brief",
                                           messages=[{"role": "user", "content": "hi"}])
    for r in twice(h, ask):
        assert r.content[0].text == "Hello there." and r.stop_reason == "end_turn"
        assert r.usage.output_tokens == 3


def anthropic_stream(h):
    def ask():
        with h.anthropic.messages.stream(model="m", max_tokens=50,
                                         messages=[{"role": "user", "content": "hi stream"}]) as s:
            text = "".join(s.text_stream)
            return text, s.get_final_message().stop_reason, s.get_final_message().usage.output_tokens
    for r in twice(h, ask):
        assert r == ("Hello there.", "end_turn", 3), r


def anthropic_tools(h):
    def ask():
        return h.anthropic.messages.create(model="m", max_tokens=50, tools=[ANTHROPIC_TOOL],
                                           messages=[{"role": "user", "content": "use the tool"}])
    for r in twice(h, ask):
        use = next(b for b in r.content if b.type == "tool_use")
        assert use.name == "weather" and use.input == TOOL_ARGS and r.stop_reason == "tool_use"
    r = h.anthropic.messages.create(model="m", max_tokens=50, tools=[ANTHROPIC_TOOL], messages=[
        {"role": "user", "content": "use the tool"},
        {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in r.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]}])
    assert r.content[0].text == "Hello there."


def anthropic_tools_stream(h):
    def ask():
        with h.anthropic.messages.stream(model="m", max_tokens=50, tools=[ANTHROPIC_TOOL],
                                         messages=[{"role": "user", "content": "tool stream"}]) as s:
            final = s.get_final_message()
            use = next(b for b in final.content if b.type == "tool_use")
            return use.name, use.input
    for r in twice(h, ask):
        assert r == ("weather", TOOL_ARGS), r


def embeddings(h):
    if h.dialect == "anthropic":
        try:
            h.openai.embeddings.create(model="e", input="x", encoding_format="float")
        except openai.BadRequestError as e:
            assert "embeddings" in str(e)
            return
        raise AssertionError("an upstream without embeddings must be a clear error")
    first, again = twice(h, lambda: h.openai.embeddings.create(model="e", input=["a", "bb"], encoding_format="float"))
    assert [d.embedding for d in first.data] == [d.embedding for d in again.data] == [[0.5, 1.0], [0.5, 2.0]]


def errors(h):
    try:
        h.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "refuse"}])
        raise AssertionError("no error")
    except openai.BadRequestError as e:
        assert "no thanks" in str(e), e
    try:
        h.anthropic.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "refuse"}])
        raise AssertionError("no error")
    except anthropic.BadRequestError as e:
        assert "no thanks" in str(e), e


def models(h):
    assert [m.id for m in h.openai.models.list()] == ["m"]


def local_openai(h):
    def ask(stream):
        return h.openai.chat.completions.create(model="nano", max_tokens=12, stream=stream,
                                                messages=[{"role": "user", "content": "hi"}])
    whole = ask(False)
    assert whole.model == "nano" and whole.usage.completion_tokens == 12
    text = "".join(c.choices[0].delta.content or "" for c in ask(True) if c.choices)
    assert text == whole.choices[0].message.content  # from the shelf


def local_structured(h):
    schema = {"type": "object", "properties": {"sunny": {"type": "boolean"}}, "required": ["sunny"],
              "additionalProperties": False}
    r = h.openai.chat.completions.create(
        model="nano", messages=[{"role": "user", "content": "weather?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": schema}})
    assert isinstance(json.loads(r.choices[0].message.content)["sunny"], bool)


def local_responses(h):
    r = h.openai.responses.create(model="nano", input="hi", max_output_tokens=16)
    assert r.output_text and r.usage.output_tokens == 16


def local_anthropic(h):
    with h.anthropic.messages.stream(model="nano", max_tokens=12,
                                     messages=[{"role": "user", "content": "hi stream"}]) as s:
        text = "".join(s.text_stream)
        final = s.get_final_message()
    assert text and final.stop_reason == "max_tokens" and final.usage.output_tokens == 12


def local_embeddings(h):
    r = h.openai.embeddings.create(model="nano", input=["a", "b"])  # base64 on the wire
    for d in r.data:
        assert abs(sum(x * x for x in d.embedding) - 1) < 1e-3


def local_errors(h):
    long = [{"role": "user", "content": "x" * 2000}]
    try:
        h.openai.chat.completions.create(model="nano", messages=long)
        raise AssertionError("no error")
    except openai.BadRequestError as e:
        assert e.code == "context_length_exceeded", e
    try:
        h.anthropic.messages.create(model="nano", max_tokens=5, messages=long)
        raise AssertionError("no error")
    except anthropic.BadRequestError as e:
        assert "context" in str(e), e


def local_models(h):
    assert [m.id for m in h.openai.models.list()] == ["nano"]


LOCAL_TESTS = [local_openai, local_structured, local_responses, local_anthropic, local_embeddings, local_errors,
               local_models]
TESTS = [openai_whole, openai_stream, openai_tools, openai_tools_stream, anthropic_whole, anthropic_stream,
         anthropic_tools, anthropic_tools_stream, embeddings, errors, models]


def main():
    passed = failed = 0
    for dialect in ("openai", "anthropic", "local"):
        house = House(sys.argv[1], dialect)
        for test in LOCAL_TESTS if dialect == "local" else TESTS:
            try:
                test(house)
                passed += 1
                print(f"ok   {test.__name__} ({dialect})")
            except Exception:
                failed += 1
                print(f"FAIL {test.__name__} ({dialect})")
                traceback.print_exc()
        house.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
