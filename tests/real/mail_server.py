"""A mail server for tests: STARTTLS (required), TLS, or plain; user "agent", password "right".

usage: mail_server.py starttls|tls|plain CERTIFICATE KEY FOLDER
Prints its port; writes each mail it takes to FOLDER/mails.jsonl.
"""

import json
import pathlib
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

kind, certificate, key, folder = sys.argv[1:]


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 there is no such person"
        if address.startswith("later@"):
            return "451 4.7.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or kind == "tls",
            "login": bool(session.authenticated),
            "text": envelope.content.decode("utf-8", "replace"),
        }
        with pathlib.Path(folder, "mails.jsonl").open("a") as mails:
            mails.write(json.dumps(mail) + "\n")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"agent", b"right"))


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
options = {"authenticator": login, "auth_required": kind != "plain"}
if kind == "starttls":
    options |= {"tls_context": context, "require_starttls": True}
elif kind == "tls":
    options |= {"auth_require_tls": False}


class AnyPort(Controller):
    """A controller whose first connection, made to see whether it works, finds its port."""

    def factory(self):
        return SMTP(self.handler, **options)

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


controller = AnyPort(Handler(), hostname="127.0.0.1", port=0, ssl_context=context if kind == "tls" else None)
controller.start()
print(controller.port, flush=True)
while True:
    time.sleep(60)
