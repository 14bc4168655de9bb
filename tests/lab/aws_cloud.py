"""A cloud for tests: EC2 and S3 by moto, Systems Manager by a stub that really runs commands on the lab's hosts.

    PYTHONPATH=LIB python3 aws_cloud.py ADDRESS HOSTS.json

HOSTS.json lists the words that run a shell on each host; each becomes an instance of EC2 with an agent. Prints its port and
the ids of the instances. Every request is held against
what botocore knows: its signature is computed anew, and what it asks is decoded, checked against the service model and,
for EC2, written again by botocore's own serializer. What does not hold is answered with an error, which fails the test.
Every answer of the stub is checked against the model too. Ends when its standard input ends.
"""
import base64
import collections
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from http.client import HTTPMessage

import boto3
import botocore.loaders
import botocore.parsers
import botocore.serialize
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

SECRETS = {"AKIATEST": "secret/of+tests", "ASIALENT": "lent"}
TOKENS = {"ASIALENT": "token-lent"}
LOADER = botocore.loaders.Loader()
MODELS = {name: ServiceModel(LOADER.load_service_model(name, "service-2"), name) for name in ("ssm", "ec2", "s3")}
REGION = "eu-west-1"
STDOUT_MAX, STDERR_MAX = 24000, 8000


class Refused(Exception):
    """An error as AWS words it."""

    def __init__(self, code, text, status=400):
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


def checked(service, operation, params, kind="input"):
    """Holds a value against the shape of an operation."""
    model = MODELS[service].operation_model(operation)
    shape = model.input_shape if kind == "input" else model.output_shape
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise Refused("ValidationException", f"{kind} of {operation}: {report.generate_report()}")
    return model


def check_signature(environ, body):
    """Computes the signature of a request with botocore's own signers."""
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    raw = environ["RAW_URI"]
    path, _, query = raw.partition("?")
    host = headers["host"]
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if "X-Amz-Signature" in given:
        scope = given["X-Amz-Credential"].split("/")
        names, theirs, stamp = given["X-Amz-SignedHeaders"].split(";"), given["X-Amz-Signature"], given["X-Amz-Date"]
        query = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
    elif headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        fields = dict(part.strip().split("=", 1) for part in headers["authorization"][17:].split(","))
        scope, names, theirs = fields["Credential"].split("/"), fields["SignedHeaders"].split(";"), fields["Signature"]
        stamp = headers["x-amz-date"]
    else:
        raise Refused("MissingAuthenticationToken", "the request is not signed", 403)
    key, _, region, service, _ = scope
    if key not in SECRETS:
        raise Refused("UnrecognizedClientException", "the security token included in the request is invalid", 403)
    token = headers.get("x-amz-security-token", given.get("X-Amz-Security-Token"))
    if token != TOKENS.get(key):
        raise Refused("ExpiredTokenException", "the security token included in the request is expired", 403)
    for must in ("host", "x-amz-date") if "X-Amz-Signature" not in given else ("host",):
        if must not in names:
            raise Refused("InvalidSignatureException", f"{must} is not signed", 403)
    signer = {True: S3SigV4Auth, False: SigV4Auth}[service == "s3"](Credentials(key, SECRETS[key]), service, region)
    request = AWSRequest(environ["REQUEST_METHOD"], f"http://{host}{path}" + (f"?{query}" if query else ""), data=body)
    for name in names:
        request.headers[name] = headers[name]
    request.context["timestamp"] = stamp
    if "X-Amz-Signature" in given:
        signer = S3SigV4QueryAuth(Credentials(key, SECRETS[key]), service, region)
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        signer.headers_to_sign = lambda req: _only(req, names)
        signer.payload = lambda req: "UNSIGNED-PAYLOAD"
    else:
        signer.headers_to_sign = lambda req: _only(req, names)
    digest = headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(body).hexdigest():
        raise Refused("XAmzContentSHA256Mismatch", "the body is not the one that was signed")
    canonical = signer.canonical_request(request)
    ours = signer.signature(signer.string_to_sign(request, canonical), request)
    if ours != theirs:
        raise Refused("SignatureDoesNotMatch", f"the signature does not match; canonical request:\n{canonical}", 403)
    return service


def _only(request, names):
    found = HTTPMessage()
    for name in names:
        found[name] = request.headers[name]
    return found


def decode_query(shape, form, prefix=""):
    """Undoes the query protocol of EC2: names with dots and numbers become structures and lists."""

    def name_of(member, shape):
        query = shape.serialization.get("queryName")
        if query:
            return query
        name = shape.serialization.get("name", member)
        return name[:1].upper() + name[1:]

    if shape.type_name == "structure":
        found = {}
        for member, inner in shape.members.items():
            name = (prefix + "." if prefix else "") + name_of(member, inner)
            if name in form or any(key.startswith(name + ".") for key in form):
                found[member] = decode_query(inner, form, name)
        return found
    if shape.type_name == "list":
        numbers = sorted({int(key[len(prefix) + 1 :].split(".")[0]) for key in form if key.startswith(prefix + ".")})
        return [decode_query(shape.member, form, f"{prefix}.{number}") for number in numbers]
    text = form[prefix]
    return {"integer": int, "boolean": lambda word: word == "true"}.get(shape.type_name, str)(text)


def check_ec2(body):
    form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    model = MODELS["ec2"].operation_model(form["Action"])
    params = decode_query(model.input_shape, {k: v for k, v in form.items() if k not in ("Action", "Version")})
    checked("ec2", form["Action"], params)
    again = botocore.serialize.create_serializer("ec2").serialize_to_request(params, model)["body"]
    again = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in again.items()}
    if again != form:
        raise Refused("InvalidParameterValue", f"botocore would have written {again}, not {form}")
    return form["Action"], params


class Roots:
    """Replacements of the volumes that instances boot from, which moto does not know. Nothing on the host changes."""

    def __init__(self):
        self.tasks, self.faults = {}, collections.Counter()

    def CreateReplaceRootVolumeTask(self, params):
        known = next((task for task in self.tasks.values() if task["token"] == params.get("ClientToken")), None)
        if known is None:
            known = {
                "id": "replacevol-%017x" % (len(self.tasks) + 1), "token": params.get("ClientToken"), "looks": 0,
                "instance": params["InstanceId"], "snapshot": params["SnapshotId"],
                "ends": "failed" if self.faults["replace"] > 0 else "succeeded",
            }
            self.faults["replace"] -= 1
            self.tasks[known["id"]] = known
        return "<replaceRootVolumeTask>%s</replaceRootVolumeTask>" % self.words(known)

    def DescribeReplaceRootVolumeTasks(self, params):
        found = [self.tasks[name] for name in params["ReplaceRootVolumeTaskIds"] if name in self.tasks]
        for task in found:
            task["looks"] += 1
        items = "".join("<item>%s</item>" % self.words(task) for task in found)
        return "<replaceRootVolumeTaskSet>%s</replaceRootVolumeTaskSet>" % items

    def words(self, task):
        state = ["pending", "in-progress", task["ends"]][min(task["looks"], 2)]
        pairs = [("replaceRootVolumeTaskId", task["id"]), ("instanceId", task["instance"]), ("taskState", state)]
        pairs += [("startTime", "2026-03-10T12:00:00Z"), ("snapshotId", task["snapshot"])]
        return "".join(f"<{name}>{value}</{name}>" for name, value in pairs)

    def answer(self, operation, params):
        inner = getattr(self, operation)(params)
        answer = f'<{operation}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId>{inner}</{operation}Response>'
        model = MODELS["ec2"].operation_model(operation)
        parsed = botocore.parsers.create_parser("ec2").parse(
            {"status_code": 200, "headers": {}, "body": answer.encode()}, model.output_shape
        )
        parsed.pop("ResponseMetadata")
        checked("ec2", operation, parsed, "output")
        return answer.encode()


def asks(script):
    """What a command asks of our binary on the host, where it asks in the open."""
    found = re.search(r"printf %s (\S+) \| base64 -d", script)
    line = base64.b64decode(found[1]).split(b"\n")[0] if found else b""
    try:
        return json.loads(line).get("ask")
    except ValueError:
        return None


class Fleet:
    """Systems Manager: instances whose commands are run by shells that the test names."""

    def __init__(self, hosts):
        self.hosts, self.commands, self.lock = hosts, {}, threading.Lock()
        self.compliance = {}
        self.faults = collections.Counter()
        self.offline = set()

    def instance(self, name):
        if name not in self.hosts:
            raise Refused("InvalidInstanceId", "")

    def DescribeInstanceInformation(self, params):
        rows = [
            {
                "InstanceId": name, "PingStatus": "ConnectionLost" if name in self.offline else "Online",
                "AgentVersion": "3.3.0.0", "IsLatestVersion": True, "PlatformType": "Linux", "PlatformName": "Debian GNU/Linux",
                "PlatformVersion": "12", "ResourceType": "EC2Instance", "IPAddress": "10.0.0.%d" % (at + 1),
                "ComputerName": "host-%d.internal" % (at + 1), "LastPingDateTime": time.time(),
            }
            for at, name in enumerate(sorted(self.hosts))
        ]
        # One on each page: whoever reads only the first sees too few.
        start = int(params.get("NextToken", "0"))
        more = {"NextToken": str(start + 1)} if start + 1 < len(rows) else {}
        return {"InstanceInformationList": rows[start : start + 1], **more}

    def GetInventory(self, params):
        kind = params["ResultAttributes"][0]["TypeName"]
        content = [{"Name": "eth0", "IPV4": "10.0.0.1", "MacAddress": "02:00:00:00:00:01"}]
        data = {kind: {"TypeName": kind, "SchemaVersion": "1.0", "Content": content}}
        return {"Entities": [{"Id": name, "Data": data} for name in sorted(self.hosts)]}

    def DescribeInstancePatchStates(self, params):
        now = time.time()
        return {
            "InstancePatchStates": [
                {
                    "InstanceId": name, "PatchGroup": "web", "BaselineId": "pb-0123456789abcdef0", "InstalledCount": 7,
                    "MissingCount": 3, "FailedCount": 1, "OperationStartTime": now, "OperationEndTime": now, "Operation": "Scan",
                }
                for name in params["InstanceIds"]
                if name in self.hosts
            ]
        }

    def PutComplianceItems(self, params):
        self.instance(params["ResourceId"])
        self.compliance[params["ResourceId"], params["ComplianceType"]] = params["Items"]
        return {}

    def SendCommand(self, params):
        for name in params["InstanceIds"]:
            self.instance(name)
        if params["DocumentName"] != "AWS-RunShellScript" or set(params["Parameters"]) - {"commands", "workingDirectory", "executionTimeout"}:
            raise Refused("InvalidParameters", "AWS-RunShellScript takes commands, workingDirectory and executionTimeout")
        if any("{{" in line for line in params["Parameters"]["commands"]):
            raise Refused("InvalidParameters", "two braces name a parameter")
        command = str(uuid.uuid4())
        with self.lock:
            for name in params["InstanceIds"]:
                self.commands[command, name] = {"Status": "Pending", "asked": 0, "params": params, "out": b"", "err": b"", "code": -1}
        for name in params["InstanceIds"]:
            threading.Thread(target=self.run, args=(command, name), daemon=True).start()
        return {
            "Command": {
                "CommandId": command, "DocumentName": params["DocumentName"], "Status": "Pending", "StatusDetails": "Pending",
                "InstanceIds": params["InstanceIds"], "Parameters": params["Parameters"], "RequestedDateTime": time.time(),
                "TargetCount": len(params["InstanceIds"]),
            }
        }

    def run(self, command, name):
        entry = self.commands[command, name]
        params = entry["params"]
        if name in self.offline:
            # Its time to be delivered is over at once: a test does not wait for it.
            entry.update(Status="TimedOut", details="DeliveryTimedOut")
            return
        entry["Status"] = "InProgress"
        script = "\n".join(params["Parameters"]["commands"]) + "\n"
        limit = int(params["Parameters"].get("executionTimeout", ["3600"])[0])
        # In a group of its own: an end of the agent is no end of what it started in a session of its own.
        child = subprocess.Popen(
            self.hosts[name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        entry["child"] = child
        try:
            entry["out"], entry["err"] = child.communicate(script.encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            entry.update(Status="TimedOut", details="ExecutionTimedOut")
            return
        entry["code"] = child.returncode
        if self.faults["terminate"] > 0 and asks(script) == "start":
            self.faults["terminate"] -= 1
            entry.update(Status="Failed", details="Terminated")
            return
        entry["Status"] = "Success" if child.returncode == 0 else "Failed"

    def GetCommandInvocation(self, params):
        self.instance(params["InstanceId"])
        entry = self.commands.get((params["CommandId"], params["InstanceId"]))
        # Systems Manager knows of a command a little later than whoever sent it.
        if entry is None or entry["asked"] == 0:
            if entry is not None:
                entry["asked"] += 1
            raise Refused("InvocationDoesNotExist", "")
        done = entry["Status"] not in ("Pending", "InProgress")
        return {
            "CommandId": params["CommandId"], "InstanceId": params["InstanceId"], "Comment": entry["params"].get("Comment", ""),
            "DocumentName": "AWS-RunShellScript", "PluginName": "aws:runShellScript", "ResponseCode": entry["code"] if done else -1,
            "Status": entry["Status"], "StatusDetails": entry.get("details", entry["Status"]),
            "StandardOutputContent": entry["out"].decode(errors="replace")[:STDOUT_MAX] if done else "",
            "StandardErrorContent": entry["err"].decode(errors="replace")[:STDERR_MAX] if done else "",
            "StandardOutputUrl": "", "StandardErrorUrl": "",
        }

    def CancelCommand(self, params):
        for name in params.get("InstanceIds", []):
            entry = self.commands.get((params["CommandId"], name))
            if entry and entry["Status"] in ("Pending", "InProgress"):
                entry.update(Status="Cancelled")
        return {}

    def answer(self, operation, body):
        if self.faults["throttle"] > 0:
            self.faults["throttle"] -= 1
            raise Refused("ThrottlingException", "Rate exceeded")
        if self.faults["break"] > 0:
            self.faults["break"] -= 1
            raise Refused("InternalServerError", "", 500)
        params = json.loads(body)
        checked("ssm", operation, params)
        act = getattr(self, operation, None)
        if act is None:
            raise Refused("UnknownOperationException", f"the stub does not know {operation}")
        answer = act(params)
        checked("ssm", operation, answer, "output")
        return answer


class Cloud:
    def __init__(self, hosts):
        self.fleet, self.moto = Fleet(hosts), DomainDispatcherApplication(create_backend_app)
        self.calls = collections.Counter()
        self.roots = Roots()

    def __call__(self, environ, start):
        # What tests ask and set; and the lender of keys, which stands beside a machine.
        path = environ["PATH_INFO"]
        if path.startswith("/cloud/") or path.startswith("/latest/"):
            return self.beside(path, environ, start)
        if path.startswith("/moto-api"):
            return self.moto(environ, start)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        try:
            service = check_signature(environ, body)
            target = environ.get("HTTP_X_AMZ_TARGET", "")
            if service == "ssm":
                prefix, _, operation = target.partition(".")
                if prefix != MODELS["ssm"].metadata["targetPrefix"]:
                    raise Refused("UnknownOperationException", target)
                self.calls["ssm:" + operation] += 1
                answer = json.dumps(self.fleet.answer(operation, body)).encode()
                start("200 OK", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(answer)))])
                return [answer]
            if service == "ec2":
                operation, params = check_ec2(body)
                self.calls["ec2:" + operation] += 1
                if hasattr(Roots, operation):
                    answer = self.roots.answer(operation, params)
                    start("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))])
                    return [answer]
            elif service == "s3":
                names = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
                self.calls["s3:" + names[environ["REQUEST_METHOD"]]] += 1
        except Refused as refused:
            print(f"refused: {refused.code}: {refused.text}", file=sys.stderr, flush=True)
            answer = json.dumps({"__type": refused.code, "message": refused.text}).encode()
            start(f"{refused.status} Refused", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(answer)))])
            return [answer]
        environ["wsgi.input"] = io.BytesIO(body)
        return self.moto(environ, start)

    def beside(self, path, environ, start):
        status, answer = "200 OK", b""
        if path == "/cloud/calls":
            answer = json.dumps(self.calls).encode()
        elif path == "/cloud/compliance":
            answer = json.dumps([[*key, items] for key, items in self.fleet.compliance.items()]).encode()
        elif path.startswith("/cloud/fault/"):
            kind, times = path.split("/")[3:5]
            self.fleet.faults[kind] = self.roots.faults[kind] = int(times)
        elif path.startswith("/cloud/left/"):
            answer = str(self.fleet.faults[path.split("/")[3]]).encode()
        elif path.startswith("/cloud/offline/"):
            self.fleet.offline.add(path.split("/")[3])
        elif path.startswith("/cloud/online/"):
            self.fleet.offline.discard(path.split("/")[3])
        elif path == "/latest/api/token" and environ["REQUEST_METHOD"] == "PUT":
            answer = b"metadata-token"
        elif environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") != "metadata-token":
            status = "401 Unauthorized"
        elif path == "/latest/meta-data/iam/security-credentials/":
            answer = b"patcher\n"
        elif path == "/latest/meta-data/iam/security-credentials/patcher":
            lent = {"AccessKeyId": "ASIALENT", "SecretAccessKey": "lent", "Token": "token-lent", "Expiration": "2099-01-01T00:00:00Z"}
            answer = json.dumps(lent).encode()
        else:
            status = "404 Not Found"
        start(status, [("Content-Length", str(len(answer)))])
        return [answer]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass

    def make_environ(self):
        environ = super().make_environ()
        environ["RAW_URI"] = self.path
        return environ


def main():
    cloud = Cloud({})
    server = make_server(sys.argv[1], 0, cloud, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    who = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": SECRETS["AKIATEST"], "region_name": REGION}
    who["endpoint_url"] = f"http://{sys.argv[1]}:{server.server_port}"
    s3, ec2 = boto3.client("s3", **who), boto3.client("ec2", **who)
    s3.create_bucket(Bucket="lab-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    ids = []
    for at, shell in enumerate(json.load(open(sys.argv[2]))):
        tags = [{"Key": "Name", "Value": f"host-{at + 1}"}, {"Key": "Patch Group", "Value": "web"}]
        made = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, InstanceType="t3.micro",
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        ids.append(made["Instances"][0]["InstanceId"])
        cloud.fleet.hosts[ids[-1]] = shell
    cloud.calls.clear()
    print(json.dumps({"port": server.server_port, "instances": ids}), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
