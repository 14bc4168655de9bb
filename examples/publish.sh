#!/bin/sh
# Tells Patchloom events over HTTP, in the three modes of CloudEvents: PATCHLOOM_URL=http://HOST:PORT publish.sh
# PATCHLOOM_TOKEN, where it is set, goes along as a bearer token.
set -eu
: "${PATCHLOOM_URL:?is the address of the engine, such as http://localhost:8080}"

post() {
    if [ -n "${PATCHLOOM_TOKEN:-}" ]; then
        set -- -H "Authorization: Bearer $PATCHLOOM_TOKEN" "$@"
    fi
    # Busy (429) and stalled (503) pass: asked again, as long as the engine says.
    curl --silent --show-error --fail-with-body --retry 10 --retry-connrefused "$@" "$PATCHLOOM_URL/events"
    echo
}

now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
id=$(date -u +%s)

# Structured: the event is the body.
post -H 'Content-Type: application/cloudevents+json' --data-binary @- <<EOT
{"specversion": "1.0", "id": "$id-1", "source": "/scanner/berlin", "type": "com.example.scan.completed",
 "subject": "web-1", "time": "$now", "datacontenttype": "application/json", "data": {"critical": 3}}
EOT

# Binary: attributes are headers, data is the body. Spaces and what is not ASCII are percent-encoded in headers.
post -H 'ce-specversion: 1.0' -H "ce-id: $id-2" -H 'ce-source: /scanner/berlin' -H "ce-time: $now" \
    -H 'ce-type: com.example.scan.completed' -H 'ce-subject: web-2' -H 'Content-Type: application/json' \
    --data-binary '{"critical": 0}'

# Batch: a list of events, taken as a whole or not at all.
post -H 'Content-Type: application/cloudevents-batch+json' --data-binary @- <<EOT
[{"specversion": "1.0", "id": "$id-3", "source": "/scanner/berlin", "type": "com.example.scan.completed", "subject": "db-1"},
 {"specversion": "1.0", "id": "$id-4", "source": "/scanner/berlin", "type": "com.example.scan.completed", "subject": "db-2"}]
EOT
