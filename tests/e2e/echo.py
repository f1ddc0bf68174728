"""An ASGI application that sends every WebSocket message back, for the conformance suite."""


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**message, "type": "websocket.send"})
