"""The fast path: a hot route answers a request that came whole without ASGI, its layers and FastAPI's machinery.

What: `protocol` (below ASGI, on uvicorn's) hands each request to `dispatcher`, which finds its route and calls it. `routes`
works out, from the very signature that FastAPI reads, how to get each argument: the same functions read the input in the same
order, the same gate admits, the same function answers, the same edge counts and logs. `header_cache` spares the parsing of
header lines that came before.

Why: for these routes the machinery costs several times what they do themselves (`docs/performance.md` has the rows: without the
fast path, without its header cache).

Which: `chat_broker.main.HOT`. What is unusual about a request (an escape in its address, a repeated header, a body that comes in
pieces) sends it the ordinary way, as does a route whose signature asks for more than `routes` understands.

Off: `FAST_PATH=off` sends everything through ASGI. The answers are the same; tests/app/fast_path compares them byte for byte.
"""
