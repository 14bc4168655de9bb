#!/usr/bin/env python3
"""Starts the services of a docker-compose.yml as processes, where no container engine is to be had: each has a network
namespace with an address on a bridge, the names of the others in its hosts file, a root that is an overlay over this
machine's, and its volumes. Needs root. Programs come from this machine, not from images.

  compose.py up FILE DIR [--program NAME=PATH]... [--leave-out SERVICE]...   until SIGTERM
  compose.py exec DIR SERVICE WORD...
  compose.py kill|start|cut|join DIR SERVICE                                 SIGKILL; again; link down; link up

Understands what our file uses, and refuses what it does not know: build, command, depends_on, entrypoint, environment,
healthcheck, image, ports, restart, stop_grace_period, user, volumes. Ports are not forwarded and nothing is restarted by itself.
"""
import json, os, re, shlex, signal, subprocess, sys, time
from pathlib import Path

KNOWN = {"build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image", "ports", "restart",
         "stop_grace_period", "user", "volumes"}
PROGRAMS = {"nats": ["nats-server"], "prom/prometheus": ["prometheus"]}  # What these images start.
PATIENCE = 240


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def dockerfile(path):
    """The entrypoint and the variables of the image that the file makes."""
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    words = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    entry = [json.loads(rest) for word, rest in words if word == "ENTRYPOINT"][-1]
    return entry, dict(rest.split("=", 1) for word, rest in words if word == "ENV")


class Service:
    def __init__(self, name, spec, number, file, place):
        unknown = set(spec) - KNOWN
        if unknown:
            sys.exit(f"compose.py: {name} has {', '.join(sorted(unknown))}, which is not known here")
        self.name, self.spec, self.file, self.place = name, spec, file, place
        self.address, self.home = f"10.77.0.{10 + number}", place / "services" / name
        image = spec["image"].split(":")[0]
        entry, environment = PROGRAMS.get(image), {}
        if "build" in spec:
            entry, environment = dockerfile(file.parent / spec["build"] / "Dockerfile")
        self.environment = {**environment, **spec.get("environment", {})}
        command = spec.get("command", [])
        unescape = lambda words: [word.replace("$$", "$") for word in words]
        self.words = unescape(spec.get("entrypoint", entry)) + unescape(command if isinstance(command, list) else shlex.split(command))
        self.process = None

    def build(self, names):
        """The namespaces, the address, the root and the volumes."""
        root = self.home / "root"
        for part in ("upper", "work", "root"):
            (self.home / part).mkdir(parents=True)
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        host = f"v-{self.name}"[:15]
        run("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        run("ip", "link", "set", host, "master", "br0", "up")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")
        lower = f"lowerdir=/,upperdir={self.home}/upper,workdir={self.home}/work"
        self.inside("mount", "-t", "overlay", "-o", lower, "overlay", root)
        for kind in ("proc", "dev"):
            self.inside("mount", "--rbind", f"/{kind}", root / kind)
        hosts = "".join(f"{address} {name}\n" for name, address in names.items())
        (self.home / "upper/etc").mkdir(exist_ok=True)
        self.inside("sh", "-c", f'printf "127.0.0.1 localhost\\n%s" "$1" >{root}/etc/hosts', "sh", hosts)
        volumes = [(self.place / "bin", "/usr/local/compose-bin", "ro")]
        for volume in self.spec.get("volumes", []):
            source, target, *mode = volume.split(":")
            here = self.file.parent / source if source.startswith(".") else self.place / "volumes" / source
            volumes.append((here, target, *mode))
        for source, target, *mode in volumes:
            inner = Path(f"{root}{target}")
            if source.is_file():
                self.inside("sh", "-c", f"mkdir -p {inner.parent} && touch {inner}")
            else:
                source.mkdir(parents=True, exist_ok=True)
                self.inside("mkdir", "-p", inner)
            self.inside("mount", "--rbind", source, inner)
            if "ro" in mode:
                self.inside("mount", "-o", "remount,bind,ro", inner)

    def words_inside(self, words, chroot=True):
        enter = ["nsenter", "-t", str(self.holder.pid), "-n", "-m"]
        if not chroot:
            return enter + [str(word) for word in words]
        path = "/usr/local/compose-bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return enter + ["chroot", str(self.home / "root"), "env", "-i", f"PATH={path}", "HOME=/root", *variables] + list(words)

    def inside(self, *words):
        run(*self.words_inside(words, chroot=False), stdout=subprocess.DEVNULL)

    def start(self):
        log = open(self.home / "log", "ab")
        self.process = subprocess.Popen(self.words_inside(self.words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_healthy(self):
        check = self.spec["healthcheck"]
        kind, *words = [word.replace("$$", "$") for word in check["test"]]
        words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        try:
            done = subprocess.run(self.words_inside(words), capture_output=True, timeout=seconds(check["timeout"]))
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def reached(self, condition):
        code = self.process.poll() if self.process else None
        if condition == "service_completed_successfully":
            if code not in (None, 0):
                sys.exit(f"compose.py: {self.name} ended with {code}:\n{(self.home / 'log').read_text()}")
            return code == 0
        if code is not None:
            sys.exit(f"compose.py: {self.name} ended with {code}:\n{(self.home / 'log').read_text()}")
        return self.process is not None and (condition == "service_started" or self.is_healthy())


def up(file, place, *options):
    import yaml
    file, place = Path(file).absolute(), Path(place).absolute()
    (place / "bin").mkdir(parents=True)
    given = list(zip(options[::2], options[1::2]))
    for name, path in (value.split("=", 1) for option, value in given if option == "--program"):
        # A file bound into place: the other root does not see where it lies.
        (place / "bin" / name).touch()
        run("mount", "--bind", Path(path).resolve(), place / "bin" / name)
    left_out = {value for option, value in given if option == "--leave-out"}
    specs = {name: spec for name, spec in yaml.safe_load(file.read_text())["services"].items() if name not in left_out}
    services = {name: Service(name, spec, at, file, place) for at, (name, spec) in enumerate(specs.items())}
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "addr", "add", "10.77.0.1/24", "dev", "br0")
    run("ip", "link", "set", "br0", "up")
    names = {name: service.address for name, service in services.items()}
    for service in services.values():
        service.build(names)
    waiting, unhealthy, end = dict(services), set(services), time.monotonic() + PATIENCE
    while waiting or unhealthy:
        if (place / "stop").exists():
            return
        if time.monotonic() > end:
            logs = "".join((services[name].home / "log").read_text()[-3000:] for name in unhealthy if services[name].process)
            sys.exit(f"compose.py: not healthy in time: {', '.join(sorted(unhealthy))}\n{logs}")
        for name, service in list(waiting.items()):
            needs = service.spec.get("depends_on", {})
            if all(services[need].reached(how["condition"]) for need, how in needs.items()):
                service.start()
                del waiting[name]
        for name in sorted(unhealthy - set(waiting)):
            has_check = "healthcheck" in services[name].spec
            if services[name].reached("service_healthy" if has_check else "service_completed_successfully"):
                print(f"{name} is {'healthy' if has_check else 'done'}", flush=True)
                unhealthy.discard(name)
        time.sleep(0.1)
    print("all services are up", flush=True)
    serve(services, place)


def serve(services, place):
    """Obeys the files that the other calls put down, until there is one called stop."""
    orders = place / "orders"
    orders.mkdir()
    while not (place / "stop").exists():
        for order in sorted(orders.glob("*.do")):
            word, name = order.read_text().split()
            service = services[name]
            if word == "kill":
                service.process.kill()
                service.process.wait()
            elif word == "start":
                service.start()
            else:
                service.inside("ip", "link", "set", "eth0", {"cut": "down", "join": "up"}[word])
            order.rename(order.with_suffix(".done"))
        (place / "holders.new").write_text(json.dumps({n: [s.holder.pid, s.environment] for n, s in services.items()}))
        (place / "holders.new").rename(place / "holders")
        time.sleep(0.05)
    # As compose does: who depends on others goes first.
    for service in reversed(services.values()):
        began = time.monotonic()
        service.process.terminate()
        try:
            service.process.wait(30)
            print(f"{service.name} ended with {service.process.returncode} after {time.monotonic() - began:.1f} s", flush=True)
        except subprocess.TimeoutExpired:
            service.process.kill()
            print(f"{service.name} did not end in time and was killed", flush=True)


def order(place, word, name):
    orders = Path(place) / "orders"
    draft = orders / f"{time.time_ns()}.new"
    draft.write_text(f"{word} {name}")
    draft.rename(draft.with_suffix(".do"))
    end = time.monotonic() + PATIENCE
    while not draft.with_suffix(".done").exists():
        if time.monotonic() > end:
            sys.exit("compose.py: nobody obeys")
        time.sleep(0.02)


def main(word, *rest):
    if word == "up":
        # All that is started, mounted and linked is gone with the namespaces of the first process.
        inner = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        child = subprocess.Popen(inner + [sys.executable, os.path.abspath(__file__), "_up", *rest], start_new_session=True)
        # unshare hands no signal on.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: (Path(rest[1]) / "stop").touch())
        sys.exit(child.wait())
    elif word == "_up":
        up(*rest)
    elif word == "exec":
        place, name, *words = rest
        pid, environment = json.loads((Path(place) / "holders").read_text())[name]
        service = Service.__new__(Service)
        service.home, service.environment = Path(place).absolute() / "services" / name, environment
        service.holder = type("Holder", (), {"pid": outer(place, pid)})
        os.execvp("nsenter", service.words_inside(words))
    elif word in ("kill", "start", "cut", "join"):
        order(rest[0], word, rest[1])
    else:
        sys.exit(__doc__)


def outer(place, pid):
    """The process as this side of the namespace counts: the one whose innermost id it is, and whose root is of `place`."""
    marker = str(Path(place).absolute())
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ids = re.search(r"NSpid:\s+(.*)", status.read_text()).group(1).split()
            if len(ids) > 1 and ids[-1] == str(pid) and marker in (status.parent / "mounts").read_text():
                return int(status.parent.name)
        except (OSError, AttributeError):
            pass
    sys.exit("compose.py: the service is gone")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["help"])
