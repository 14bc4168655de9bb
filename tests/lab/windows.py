#!/usr/bin/env python3
"""A Windows machine as Patchloom's scripts see it, for tests: PowerShell is not here, and no script is interpreted. Each is held
against the words that Microsoft documents (cmdlets, COM classes, their members), told what it is by those, and answered from a state
that is kept in a file. What a script says beside the words known here is refused, as is an install over a network logon.

    powershell.exe … -EncodedCommand BASE64      with the script on standard input
State: /var/lib/winsim/state.json; what was done: /var/lib/winsim/log; while /var/lib/winsim/shut is there, installs wait.
"""
import binascii, os, re, subprocess, sys, time

HOME = "/var/lib/winsim"
BOOTSTRAP = ("$ProgressPreference='SilentlyContinue'; $i=New-Object IO.StreamReader([Console]::OpenStandardInput(),"
             "[Text.Encoding]::UTF8); & ([ScriptBlock]::Create($i.ReadToEnd()))")
CMDLETS = set("""New-Object ConvertTo-Json ForEach-Object Where-Object Join-Path Split-Path Test-Path New-Item Move-Item Out-String
Get-CimInstance Get-Service Get-Process Get-Item New-TimeSpan Get-ScheduledTask Register-ScheduledTask Start-ScheduledTask
New-ScheduledTaskAction New-ScheduledTaskPrincipal New-ScheduledTaskSettingsSet Get-WindowsPackage Remove-Package Add-Type""".split())
CLASSES = {"Microsoft.Update.Session", "Microsoft.Update.UpdateColl", "Microsoft.Update.AutoUpdate"}
# Members of the update agent's interfaces, of the classes of CIM and .NET that are used, and of what scripts make themselves.
MEMBERS = set("""ClientApplicationID CreateUpdateSearcher CreateUpdateDownloader CreateUpdateInstaller Search Updates ResultCode HResult
Identity UpdateID RevisionNumber Title KBArticleIDs MsrcSeverity CveIDs Categories CategoryID Name MaxDownloadSize IsUninstallable
EulaAccepted AcceptEula Add Download Install ForceQuiet GetUpdateResult RebootRequired RebootRequiredBeforeInstallation Results
LastSearchSuccessDate Caption Version LastBootUpTime FreeSpace TotalMilliseconds Count TaskName State Status PackageState
PackageName Description ReadToEnd Exception Message MyCommand Path""".split())
PROGRAMS = {"dism.exe", "wusa.exe", "shutdown.exe", "powershell.exe"}
ACCESS_DENIED = -2147024891


class json:
    """The hosts of the fleet have the smallest of Pythons, without this module."""

    @staticmethod
    def loads(text):
        return eval(text, {"__builtins__": {}, "true": True, "false": False, "null": None})

    @staticmethod
    def dumps(value):
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        if isinstance(value, dict):
            return "{" + ",".join(json.dumps(key) + ":" + json.dumps(of) for key, of in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(json.dumps(of) for of in value) + "]"
        if isinstance(value, str):
            plain = lambda c: c if c >= " " and c not in '"\\' else f"\\u{ord(c):04x}"
            return '"' + "".join(plain(c) for c in value) + '"'
        return str(value)


def load():
    with open(f"{HOME}/state.json") as file:
        return json.loads(file.read())


def save(state):
    with open(f"{HOME}/state.new", "w") as file:
        file.write(json.dumps(state))
    os.rename(f"{HOME}/state.new", f"{HOME}/state.json")


def log(text):
    with open(f"{HOME}/log", "a") as file:
        file.write(text + "\n")


def say(value):
    print(json.dumps(value), end="\r\n")


def refuse(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)


def unquoted(script):
    """Without its literals; those in double quotes stay, for variables are looked up in them."""
    return re.sub(r"'(?:[^']|'')*'", "''", script)


def check(script):
    """Every word is one that is documented."""
    if not script.startswith("$ErrorActionPreference='Stop'; "):
        refuse("errors do not end this script")
    if not script.isascii() or "\n" in script:
        refuse("the script is not one line of ASCII")
    bare = unquoted(script)
    for cmdlet in re.findall(r"(?<![\w$/-])[A-Z][a-z]+-[A-Z]\w+", bare):
        if cmdlet not in CMDLETS:
            refuse(f"{cmdlet}: the term is not recognized as the name of a cmdlet")
    for name in re.findall(r"-ComObject ([\w.]+)", bare):
        if name not in CLASSES:
            refuse(f"{name}: retrieving the COM class factory failed: 80040154 class not registered")
    for member in re.findall(r"(?:\$\w+|\)|\])\.([A-Z]\w*)", bare):
        if member not in MEMBERS:
            refuse(f"the property or method '{member}' cannot be found on this object")
    for program in re.findall(r"& ([\w.]+\.exe)", bare):
        if program not in PROGRAMS:
            refuse(f"{program}: the term is not recognized")
    for query in re.findall(r"\.Search\('([^']*)'\)", script):
        if not re.fullmatch(r"(Is(Installed|Hidden)|RebootRequired)=[01]( and (Is(Installed|Hidden)|RebootRequired)=[01])*", query):
            refuse(f"0x80240032: the search criteria string was invalid: {query}")
    depth = 0
    for c in re.sub(r'"[^"]*"', '""', bare):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth < 0:
            refuse("unexpected token '}'")
    if depth:
        refuse("missing closing '}'")


def rows(updates):
    return [{"id": u["id"], "articles": u["articles"]} for u in updates]


def stands(name):
    place = f"{HOME}/tasks/{name}"
    if os.path.exists(f"{place}/outcome.json"):
        with open(f"{place}/outcome.json") as file:
            return {"status": "over", "said": file.read()}
    if not os.path.exists(f"{place}/begun"):
        return {"status": "absent"}
    return {"status": "running" if alive(name) else "dead"}


def alive(name):
    try:
        with open(f"{HOME}/tasks/{name}/pid") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline") as file:
            return name in file.read()
    except (OSError, ValueError):
        return False


def start(name):
    process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--task", name], start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(f"{HOME}/tasks/{name}/pid", "w") as file:
        file.write(str(process.pid))
    log(f"started {name}")


def begin(script):
    name = re.search(r"\$n='([0-9a-f-]+)'", script).group(1)
    for part in ["-UserId 'S-1-5-18'", "-LogonType ServiceAccount", "-RunLevel Highest", "-Execute 'powershell.exe'"]:
        if part not in script:
            refuse(f"the task would not run as the system: {part} is missing")
    place = f"{HOME}/tasks/{name}"
    if not os.path.exists(f"{place}/begun"):
        others = os.listdir(f"{HOME}/tasks") if os.path.isdir(f"{HOME}/tasks") else []
        busy = [other for other in others if other != name and alive(other)]
        if busy:
            return say({"status": "busy", "by": "Patchloom-" + busy[0]})
        inner = re.search(r"WriteAllText\(\$f,'((?:[^']|'')*)'", script).group(1).replace("''", "'")
        os.makedirs(place, exist_ok=True)
        with open(f"{place}/task.ps1", "w") as file:
            file.write(inner)
        open(f"{place}/begun", "w").close()
        start(name)
    say(stands(name))


def task(name):
    """What the scheduled task does, and writes as its outcome."""
    place = f"{HOME}/tasks/{name}"
    with open(f"{place}/task.ps1") as file:
        wrapped = file.read()
    script = re.search(r"try \{ \$w=\(& \{ (.*) \} \| Out-String\); if\(\$LASTEXITCODE\)", wrapped).group(1)
    for part in ["catch {", "outcome.new", "Move-Item -Force -Path $n -Destination (Join-Path $d 'outcome.json')"]:
        if part not in wrapped:
            refuse(f"its outcome is not put in place whole: {part} is missing")
    while os.path.exists(f"{HOME}/shut"):
        time.sleep(0.05)
    code, text = 0, ""
    try:
        text = json.dumps(install(script) if "CreateUpdateInstaller(); $d.Updates=$c" in script else remove(script)) + "\r\n"
    except RuntimeError as error:
        code, text = 1, f"Error: {error}"
    with open(f"{place}/outcome.new", "w") as file:
        file.write(json.dumps({"code": code, "text": text}))
    os.rename(f"{place}/outcome.new", f"{place}/outcome.json")


def install(script):
    state = load()
    wanted = re.findall(r"'([0-9a-f-]{36}\.\d+)'", re.search(r"\$w=@\(([^)]*)\)", script).group(1))
    have = {u["id"] for u in state["installed"] + state["waiting"]}
    picked = [u for u in state["offered"] if u["id"] in wanted]
    lacking = [w for w in wanted if w not in have and w not in {u["id"] for u in picked}]
    if lacking:
        raise RuntimeError(f"not offered any more: {', '.join(lacking)} (0x80131501)")
    steps, worst = [], 2
    for update in picked:
        hresult = state.get("fails", {}).get(update["articles"][0], 0)
        steps.append({"id": update["id"], "resultCode": 4 if hresult else 2, "hresult": hresult})
        if hresult:
            worst = 3 if len(picked) > 1 else 4
            continue
        log(f"installed {update['id']}")
        state["offered"].remove(update)
        state["waiting" if update.get("restart") else "installed"].append(update)
        save(state)
    restart = bool(state["waiting"])
    return {"phase": "install", "resultCode": worst, "rebootRequired": restart, "updates": steps}


def remove(script):
    state, article = load(), re.search(r"\$k='KB(\d+)'", script).group(1)
    came = [u for u in state["installed"] + state["waiting"] if article in u["articles"]]
    if not came or state.get("permanent"):
        raise RuntimeError("wusa.exe ended with 2359303 (0x80131501)")
    for update in came:
        for place in ["installed", "waiting"]:
            if update in state[place]:
                state[place].remove(update)
        state["offered"].append(update)
        log(f"removed {update['id']}")
    save(state)
    return {"removed": "KB" + article, "rebootRequired": False}


def answer(script):
    state = load()
    if "Register-ScheduledTask" in script:
        begin(script)
    elif "'Patchloom-'+$n" in script:
        name = re.search(r"\$n='([0-9a-f-]+)'", script).group(1)
        if "Start-ScheduledTask" in script and stands(name)["status"] == "dead":
            start(name)
        say(stands(name))
    elif "CreateUpdateDownloader()" in script or "Get-WindowsPackage" in script:
        refuse(f"Access is denied. (Exception from HRESULT: {ACCESS_DENIED & 0xFFFFFFFF:#X} (E_ACCESSDENIED))")
    elif "Win32_OperatingSystem" in script:
        say({"caption": "Microsoft Windows Server 2022 Datacenter", "version": "10.0.20348", "architecture": "AMD64",
             "computer": "WIN-1", "boot_ms": state["boot_ms"], "now_ms": int(time.time() * 1000),
             "searched_ms": int(time.time() * 1000) - 3600000, "free_bytes": state.get("free_bytes", 40 << 30),
             "reboot": bool(state["waiting"]), "reboot_first": state.get("reboot_first", False)})
    elif "waiting=@(" in script:
        say({"resultCode": 2, "installed": rows(state["installed"]), "waiting": rows(state["waiting"])})
    elif "size_bytes=" in script:
        keys = ["id", "title", "articles", "severity", "cves", "categories", "size_bytes", "uninstallable"]
        say({"resultCode": 2, "updates": [{key: u.get(key) for key in keys} for u in state["offered"]]})
    elif "Get-Service" in script:
        name = re.search(r"-Name '([^']*)'", script).group(1)
        status = state.get("services", {}).get(name, "absent")
        print(status, end="\r\n")
        sys.exit(0 if status == "Running" else 3)
    elif "Get-Process" in script:
        sys.exit(0 if re.search(r"-Name '([^']*)'", script).group(1) in state.get("processes", []) else 3)
    elif "shutdown.exe /r" in script:
        if state.get("stays_down"):
            return
        log("restarted")
        state["installed"] += state["waiting"]
        state["waiting"], state["boot_ms"] = [], int(time.time() * 1000)
        save(state)
    elif (line := re.search(r"& \{ (.*) \}; if\(-not \$\?\)", script)):
        path = re.fullmatch(r"Get-Item '([^']*)'", line.group(1))
        if not path:
            refuse(f"this line is not known here: {line.group(1)}")
        sys.exit(0 if path.group(1) in state.get("files", []) else 1)
    else:
        refuse(f"this script is not known here: {script}")


if sys.argv[1:2] == ["--task"]:
    task(sys.argv[2])
else:
    encoded = sys.argv[-1] if sys.argv[-2] == "-EncodedCommand" else refuse("no -EncodedCommand")
    if binascii.a2b_base64(encoded).decode("utf-16-le") != BOOTSTRAP:
        refuse("the bootstrap is another one")
    text = sys.stdin.buffer.read().decode()
    check(text)
    answer(text)
