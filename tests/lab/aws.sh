#!/bin/bash
# moto, which answers as parts of AWS do, and botocore, whose service models say how each request and answer has to look:
# pinned, fetched once, checked, kept in the cache. Prints where it lies.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_aws() {
  python3 -m pip install -q --no-deps --only-binary :all: --require-hashes --target lib -r "$LAB/aws.txt"
  python3 -m pip install -q --no-deps --only-binary :all: --target lib -r "$LAB/aws-native.txt"
  PYTHONPATH=lib python3 -c 'import moto.server, botocore, moto.ec2.models, moto.s3.models, moto.ssm.models, moto.sts.models'
}

python3 -m pip --version >/dev/null 2>&1 || need python3-pip
build aws "$(key "$LAB"/aws{.sh,.txt,-native.txt} "$LAB/lib.sh" -- "$(python3 --version)")" make_aws
echo "$CACHE/aws/lib"
