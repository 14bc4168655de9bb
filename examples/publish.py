#!/usr/bin/env python3
"""Publishes CloudEvents to Patchloom over NATS: publish.py nats://HOST:4222 PUBLISHER [PARTITION] < events.ndjson

One event in JSON on each line. It goes on until each of them is in the hands of the server: a server that has no room
refuses, and is asked again with a growing pause. Needs nats-py; docs/events.md tells the rest.
"""
import asyncio
import json
import sys

import nats

AT_ONCE = 200  # Events under way at a time: the pace of the server is ours.


async def publish(stream, subject, event):
    """Publishes one event until the server has it; gives how often it was refused."""
    headers = {
        "Content-Type": "application/cloudevents+json",
        # The same event told again within two minutes is dropped by the server, and later by the engine.
        "Nats-Msg-Id": f"{event['source']}#{event['id']}",
    }
    refused, pause = 0, 0.05
    while True:
        try:
            await stream.publish(subject, json.dumps(event).encode(), timeout=5, headers=headers)
            return refused
        except nats.errors.Error as error:  # No room (10077), nobody there yet, or no answer: all of it passes.
            if refused == 0:
                print(f"{event['id']} waits: {error}", file=sys.stderr)
            refused += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2)


async def main(url, publisher, partition="main"):
    client = await nats.connect(url, max_reconnect_attempts=-1)
    stream, subject = client.jetstream(), f"patchloom.events.in.{partition}.{publisher}"
    under_way, count, refused = set(), 0, 0
    for line in sys.stdin:
        if len(under_way) >= AT_ONCE:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            refused += sum(task.result() for task in done)
        under_way.add(asyncio.create_task(publish(stream, subject, json.loads(line))))
        count += 1
    refused += sum(await asyncio.gather(*under_way))
    print(f"published {count}, refused {refused} times on the way")
    await client.drain()


asyncio.run(main(*sys.argv[1:]))
