#!/bin/sh
# Make the secrets of compose.yaml in the folder secrets/ beside this file, each with 256 random bits. What is there stays as it is;
# what Redis is told of its users is written anew each time, since those of a new version may do other things: run it again then.
#
# The folder is for its owner alone. The files in it are readable to all, because compose mounts each as it is into containers
# whose user has another number.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
umask 022

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-64; }

keep mongo_password "$(random)"
keep api_key "$(random)"
keep mongo_url "mongodb://pushway:$(cat secrets/mongo_password)@mongo:27017/?replicaSet=rs0&authSource=admin"

# Each service is a Redis user of its own, who may do what it does; producers reach Redis from outside of the containers.
users=$(cat ../redis/users.acl)
for user in auth collect dispatch edge producer operator admin; do
    host=redis
    [ "$user" = producer ] && host=127.0.0.1
    keep "redis_${user}_url" "redis://pushway-$user:$(random)@$host:6379/0"
    digest=$(cut -d : -f 3 "secrets/redis_${user}_url" | cut -d @ -f 1 | tr -d '\n' | sha256)
    users=$(printf '%s\n' "$users" | sed "s/^user pushway-$user on /&#$digest /")
done
printf '%s\n' "$users" >secrets/redis_users
