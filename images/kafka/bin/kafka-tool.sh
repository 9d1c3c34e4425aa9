#!/usr/bin/env bash
# Kafka's command-line tools under the names they have in the official image: each is a link to this file.
set -euo pipefail

case ${0##*/} in
    kafka-configs.sh) class=kafka.admin.ConfigCommand ;;
    kafka-console-consumer.sh) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    kafka-console-producer.sh) class=org.apache.kafka.tools.ConsoleProducer ;;
    kafka-consumer-groups.sh) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    kafka-topics.sh) class=org.apache.kafka.tools.TopicCommand ;;
    *)
        printf 'call this file by one of its links: kafka-topics.sh and others\n' >&2
        exit 2
        ;;
esac
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '/opt/kafka/libs/*' \
    -Dlog4j2.configurationFile=/opt/kafka/config/log4j2-tools.properties "$class" "$@"
