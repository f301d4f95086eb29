"""Gives out tokens that a registry asks for (the distribution project's token specification).

Arguments: port, key and certificate (PEM, RSA), user:password, the one public repository.
openssl signs, so that nothing but Python's own library is needed.
"""

import base64
import http.server
import json
import subprocess
import sys
import time
import urllib.parse

PORT, KEY, CERTIFICATE, LOGIN, PUBLIC = sys.argv[1:]


def text(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def allowed(scope, known):
    kind, name, actions = scope.split(":")
    actions = [a for a in actions.split(",") if known or (name == PUBLIC and a == "pull")]
    return {"type": kind, "name": name, "actions": actions}


def token(service, access):
    pem = open(CERTIFICATE).read().strip().splitlines()
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem[1:-1])]}
    claims = {"iss": "tests", "sub": "", "aud": service, "nbf": now - 10, "iat": now,
              "exp": now + 300, "jti": str(time.time_ns()), "access": access}
    body = ".".join(text(json.dumps(part).encode()) for part in (header, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", KEY]
    return body + "." + text(subprocess.run(sign, input=body.encode(), stdout=-1, check=True).stdout)


class Tokens(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        given = self.headers.get("Authorization", "")
        known = given == "Basic " + base64.b64encode(LOGIN.encode()).decode()
        if given and not known:
            return self.answer(401, {"details": "incorrect username or password"})
        access = [allowed(scope, known) for scope in query.get("scope", [])]
        self.answer(200, {"token": token(query.get("service", [""])[0], access)})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Tokens).serve_forever()
