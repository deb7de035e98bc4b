#!/bin/sh
# A framework's life by curl alone, on a cluster of one agent: session.sh HOST:PORT
#
# Prints what was called (>), answered (<) and told on the stream (*). What differs from run to run
# has a name in capitals instead, so that session.txt beside this is the answer to expect.
set -eu
url=http://$1/api/v1/scheduler
user=$(id -un)
dir=$(mktemp -d)
stream=
trap 'rm -rf "$dir"; [ -z "$stream" ] || kill "$stream" 2>/dev/null || true' EXIT
: >"$dir/names"

# Whatever was found in $2 by the expression $3 is called $1 from now on; the latest name comes first,
# as the ids that a master gives begin with its own.
name() {
  value=$(printf '%s' "$2" | sed -n "s|.*$3.*|\\1|p")
  [ -n "$value" ] || { echo "no $1 in: $2" >&2; exit 1; }
  eval "$1=\$value"
  { echo "s|$value|$1|g"; cat "$dir/names"; } >"$dir/more"
  mv "$dir/more" "$dir/names"
}

say() {
  sed -f "$dir/names" \
    -e "s|\"user\":\"$user\"|\"user\":\"USER\"|" -e 's|^< Date: .*|< Date: DATE|' \
    -e 's|"timestamp":[0-9.]*|"timestamp":TIME|' -e 's|"executor_pid":[0-9]*|"executor_pid":PID|' -e 's|"port":[0-9]*|"port":PORT|g' \
    -e 's|@127.0.0.1:[0-9]*|@127.0.0.1:PORT|' \
    -e 's|\("isolation","type":"TEXT","text":{"value":\)"[^"]*"|\1"ISOLATION"|'
}

# The records of the stream, one a line: each is preceded by its length and ends without a newline.
records() {
  sed -e 's/}[0-9]*$/}/' -e '/^[0-9]*$/d' "$dir/events"
}

# Waits for the next record of type $1 that has $2 in it, prints it, and keeps it in $event.
expect() {
  tries=0
  until event=$(records | grep "\"type\":\"$1\"" | grep "$2.*}\$" | tail -n 1) && [ -n "$event" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "no $1 with $2 came" >&2; records >&2; exit 1; }
    sleep 0.1
  done
}

tell() {
  printf '* %s\n' "$event" | say
}

answered() {
  tr -d '\r' | sed -e '/^$/d' -e 's/^/< /' | say
}

# Makes a call on the stream and prints it and its answer.
call() {
  printf '> %s\n' "$1" | say
  curl -s -i -w '\n' -H 'Content-Type: application/json' -H "Mesos-Stream-Id: $STREAM" \
    -d "$1" "$url" | answered
}

subscribe='{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"'$user'","name":"curl","roles":["web"],"capabilities":[{"type":"MULTI_ROLE"}]}}}'
printf '> %s\n' "$subscribe" | say
curl -s -N -D "$dir/headers" -o "$dir/events" -H 'Content-Type: application/json' \
  -H 'Accept: application/json' -d "$subscribe" "$url" &
stream=$!
touch "$dir/events"
expect SUBSCRIBED .
name STREAM "$(tr -d '\r' <"$dir/headers")" 'Mesos-Stream-Id: \([^ ]*\)'
name MASTER "$event" '"master_info":{"id":"\([^"]*\)"'
name FRAMEWORK "$event" '"framework_id":{"value":"\([^"]*\)"'
answered <"$dir/headers"
tell

expect OFFERS .
name OFFER "$event" '"offers":\[{"id":{"value":"\([^"]*\)"'
name AGENT "$event" '"agent_id":{"value":"\([^"]*\)"'
tell

task='{"name":"sleep","task_id":{"value":"sleep"},"agent_id":{"value":"'$AGENT'"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"allocation_info":{"role":"web"}},{"name":"mem","type":"SCALAR","scalar":{"value":32},"allocation_info":{"role":"web"}}],"command":{"value":"exec sleep 1000"}}'
call '{"type":"ACCEPT","framework_id":{"value":"'"$FRAMEWORK"'"},"accept":{"offer_ids":[{"value":"'"$OFFER"'"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":['"$task"']}}],"filters":{"refuse_seconds":1000}}}'

# acknowledge NAME: of the status in $event.
acknowledge() {
  name "$1" "$event" '"uuid":"\([^"]*\)"'
  tell
  eval "uuid=\$$1"
  call '{"type":"ACKNOWLEDGE","framework_id":{"value":"'"$FRAMEWORK"'"},"acknowledge":{"agent_id":{"value":"'"$AGENT"'"},"task_id":{"value":"sleep"},"uuid":"'"$uuid"'"}}'
}
expect UPDATE TASK_STARTING
acknowledge FIRST
expect UPDATE TASK_RUNNING
acknowledge SECOND

call '{"type":"RECONCILE","framework_id":{"value":"'"$FRAMEWORK"'"},"reconcile":{"tasks":[]}}'
expect UPDATE REASON_RECONCILIATION
tell
call '{"type":"KILL","framework_id":{"value":"'"$FRAMEWORK"'"},"kill":{"task_id":{"value":"sleep"}}}'
expect UPDATE TASK_KILLED
acknowledge THIRD
call '{"type":"SUPPRESS","framework_id":{"value":"'"$FRAMEWORK"'"}}'
call '{"type":"KILL","framework_id":{"value":"'"$FRAMEWORK"'"}}'
call '{"type":"TEARDOWN","framework_id":{"value":"'"$FRAMEWORK"'"}}'
wait "$stream" && echo 'the stream has ended'
stream=
