"""The demo: events from PostgreSQL to Kafka, each with the time that it took.

play      the scenes, and what they prove
stage     what has to be there before: the binary, the database, the topic
relay     the relay as a process: start, wait until it leads, stop
insert    the inserting side: psql and examples/python/producer.py, with the time around each COMMIT
watch     the receiving side: a Kafka consumer that notes when each event arrived
arrivals  the watcher as a process, and what it has reported
terms     names, places and words that the others share
"""
