"""NYC taxi trips: columns over the eras, the publisher's rows to canonical trips, trips to gold."""
