#!/usr/bin/env python3
"""A Patchloom worker in Python: worker.py nats://HOST:4222 QUEUE. Needs nats-py; docs/protocol.md tells what is said."""
import asyncio
import json
import os
import signal
import socket
import sys

import nats

PLACES = 4
ME = f"{socket.gethostname()}/{os.getpid()}"


def work(uses, given):
    """The work itself, in a thread: what it returns is the output, what it raises the failure."""
    if uses == "demo.add":
        return {"sum": sum(given["numbers"])}
    raise ValueError(f"no worker here knows the task type {uses}")


async def ask(client, subject, **question):
    """Asks the leader until it answers: one answer for each key, task or result."""
    pause = 0.1
    while True:
        try:
            reply = await client.request(subject, json.dumps({"worker": ME, **question}).encode(), timeout=5)
            return json.loads(reply.data)["answers"]
        except (nats.errors.Error, KeyError) as error:
            print(subject, json.loads(reply.data) if isinstance(error, KeyError) else repr(error), file=sys.stderr)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)


async def one(client, ticket):
    """Claims the task of one ticket, does it, and tells what came of it."""
    task = json.loads(ticket.data)
    _, _, queue, partition, _ = ticket.subject.split(".")
    leader = f"patchloom.work.{partition}.{queue}"
    [word] = await ask(client, f"{leader}.claim", keys=[task["key"]])
    if word["answer"] == "gone":
        return await ticket.ack()
    if word["answer"] == "held":
        return await ticket.nak(delay=word["retry_ms"] / 1000)
    mine = {"key": task["key"], "token": word["token"]}
    job = asyncio.ensure_future(asyncio.to_thread(work, task["uses"], task["input"]))
    while not (await asyncio.wait([job], timeout=word["lease_ms"] / 3000))[0]:
        await ticket.in_progress()
        # A thread cannot be stopped: asked to, this worker ends its work all the same.
        if await ask(client, f"{leader}.beat", tasks=[mine]) == ["lost"]:
            return await ticket.nak()
    try:
        outcome = {"succeeded": {"output": job.result()}}
    except Exception as error:
        outcome = {"failed": {"code": "PYTHON", "class": "permanent", "message": str(error)}}
    told = await ask(client, f"{leader}.settle", results=[{**mine, "outcome": outcome}])
    await (ticket.nak() if told == ["lost"] else ticket.ack())


async def main(url, queue):
    stop, running = asyncio.Event(), set()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await nats.connect(url, max_reconnect_attempts=-1)
    tickets = await client.jetstream().pull_subscribe_bind(f"q-{queue}", "PATCHLOOM_TASKS")
    while not stop.is_set():
        if free := PLACES - len(running):
            await client.publish(f"patchloom.want.{queue}", json.dumps({"worker": ME, "free": free}).encode())
            try:
                for ticket in await tickets.fetch(free, timeout=1):
                    running.add(asyncio.create_task(one(client, ticket)))
            except nats.errors.Error:
                await asyncio.sleep(0.1)  # No ticket, or nobody who has one yet.
        if running:
            _, running = await asyncio.wait(running, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*running, return_exceptions=True)


asyncio.run(main(*sys.argv[1:]))
