"""A mail server for tests: `server.py <folder> <JSON of options>`.

It listens on a free port of loopback, prints `{"port": n}`, and ends when its standard input does. Each email that it
accepts becomes `<n>.json` in the folder: envelope, connection, headers and parts, as Python's own parser reads them.

What it does with an email is chosen by the local part of the recipient: see `Handler.handle_RCPT` and `Server`.

Options: `greeting` (a line to refuse every connection with), `silent` (connections are accepted and never answered),
`tls` ("offered", "required", "implicit" or "broken"; with `certificate` and `key`, PEM files), `user` and `password`
(without which no email is taken), `emails_per_connection` (the connection is closed after so many), `utf8` (false:
SMTPUTF8 is not offered), `port` (instead of a free one), `answers_after` (seconds between taking an email and saying
so), `everyone` (what every recipient is treated as, whatever the local part, such as "hang").
"""

import asyncio
import email
import email.policy
import itertools
import json
import logging
import os
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# That a login without TLS is unsafe is known, and broken dialogues are what it is for: no need to report them.
warnings.simplefilter("ignore")
logging.disable()


class Handler:
    def __init__(self, folder, options):
        self.folder = folder
        self.options = options
        self.numbers = itertools.count(1)
        self.attempts = {}

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("forbidden"):
            return "550 5.7.1 not your address"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        kind = self.kind(address)
        if kind == "never":
            return "550 5.1.1 no such\tmailbox"
        if kind == "named":
            return f"550 5.1.1 <{address}> unknown"
        if kind == "later":
            return "451 4.7.1 greylisted"
        if kind == "twice":
            # The third attempt is accepted.
            attempt = self.attempts[address] = self.attempts.get(address, 0) + 1
            if attempt <= 2:
                return "450 4.2.1 busy"
        if kind == "leave":
            return "421 4.3.2 going down"
        if kind == "login":
            return "530 5.7.0 authentication required"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        kind = self.kind(envelope.rcpt_tos[0])
        if kind == "hang":
            await asyncio.Event().wait()
        if kind == "spam":
            return "554 5.7.1 looks like spam"
        if kind == "full":
            return "452 4.3.1 no room"
        self.keep(server, session, envelope)
        server.emails += 1
        await asyncio.sleep(self.options.get("answers_after", 0))
        return "250 OK"

    def kind(self, address):
        return self.options.get("everyone", address.partition("@")[0].partition("-")[0])

    def keep(self, server, session, envelope):
        parsed = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        parts = [part for part in parsed.walk() if not part.is_multipart()]
        text = lambda part: part.get_content().replace("\r\n", "\n")
        record = {
            "connection": server.number,
            "greeted_as": session.host_name,
            "is_encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data,
            "from": envelope.mail_from,
            "options": envelope.mail_options,
            "to": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in parsed.items()],
            "kind": parsed.get_content_type(),
            "parts": [[part.get_content_type(), part.get_content_charset(), text(part)] for part in parts],
            "raw": envelope.original_content.decode("utf-8", "replace"),
        }
        path = os.path.join(self.folder, f"{next(self.numbers)}.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.rename(path + ".part", path)


class Server(SMTP):
    numbers = itertools.count(1)

    def __init__(self, *args, options, **kwargs):
        super().__init__(*args, **kwargs)
        self.options = options
        self.number = next(Server.numbers)
        self.emails = 0

    async def smtp_STARTTLS(self, arg):
        if self.options.get("tls") != "broken":
            return await super().smtp_STARTTLS(arg)
        await self.push("220 go ahead")
        self.transport.write(b"this is no TLS\r\n" * 10)

    async def smtp_DATA(self, arg):
        if self.envelope.rcpt_tos and self.event_handler.kind(self.envelope.rcpt_tos[0]) == "break":
            await self.push("354 go ahead")
            await self._reader.readline()
            self.transport.abort()
            return
        await super().smtp_DATA(arg)

    async def smtp_MAIL(self, arg):
        if self.emails == self.options.get("emails_per_connection"):
            self.transport.abort()
            return
        await super().smtp_MAIL(arg)


def make(loop, folder, options):
    """A function that makes the protocol of each connection."""
    context = None
    if "certificate" in options:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options["certificate"], options["key"])
    tls = options.get("tls")

    def authenticate(server, session, envelope, mechanism, data):
        right = (data.login.decode(), data.password.decode()) == (options["user"], options["password"])
        return AuthResult(success=right, handled=False, auth_data=data.login.decode())

    handler = Handler(folder, options)

    def protocol():
        return Server(
            handler,
            options=options,
            loop=loop,
            hostname="mail.test",
            enable_SMTPUTF8=options.get("utf8", True),
            tls_context=context if tls != "implicit" else None,
            require_starttls=tls == "required",
            auth_required="user" in options,
            auth_require_tls=False,
            authenticator=authenticate if "user" in options else None,
            auth_exclude_mechanism=[] if "user" in options else ["LOGIN", "PLAIN"],
        )

    return protocol, context if tls == "implicit" else None


async def refuse(options, reader, writer):
    if "greeting" in options:
        writer.write(options["greeting"].encode() + b"\r\n")
        await writer.drain()
        await reader.readline()
        writer.close()
    else:
        await asyncio.Event().wait()


async def main(folder, options):
    loop = asyncio.get_running_loop()
    if "greeting" in options or options.get("silent"):
        port = options.get("port", 0)
        server = await asyncio.start_server(lambda *streams: refuse(options, *streams), "127.0.0.1", port)
    else:
        protocol, implicit = make(loop, folder, options)
        server = await loop.create_server(protocol, "127.0.0.1", options.get("port", 0), ssl=implicit)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    # Whoever started this server holds the other end, so that none outlives its test.
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
