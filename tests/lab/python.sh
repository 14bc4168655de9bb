#!/bin/bash
# The Python library that examples/worker.py speaks NATS with: pinned, fetched once, checked, kept in the cache.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
VERSION=2.16.0 SHA256=aeb1ff123966c05833d26c7df7e1d54c1c6d32b612428b21677a2e921f1fecae

make_python() {
  echo "nats-py==$VERSION --hash=sha256:$SHA256" >wheel.txt
  python3 -m pip install -q --no-deps --only-binary :all: --target lib -r wheel.txt
  PYTHONPATH=lib python3 -c 'import nats'
}

python3 -m pip --version >/dev/null 2>&1 || need python3-pip
build python "$(key "$LAB"/{python,lib}.sh -- "$(python3 --version)")" make_python
echo "$CACHE/python/lib"
