"""What columns mean, for people who look at a table in Dagster."""

from lakehouse.transforms.taxi.eras import COLUMNS

_TRIPS = {
    column.name: f"{column.about[0].upper()}{column.about[1:]}."
    for columns in COLUMNS.values()
    for column in columns
}

_RETAIL = {
    "hub_invoice_hash_key": "Key of (InvoiceNo, StockCode, InvoiceDate): the original's line.",
    "hub_product_hash_key": "Key of StockCode.",
    "hub_customer_hash_key": "Key of CustomerID.",
    "hub_time_hash_key": "Key of InvoiceDate.",
    "hub_country_hash_key": "Key of Country.",
    "link_invoice_product_hash_key": "Key of invoice line and product.",
    "link_invoice_customer_hash_key": "Key of invoice line and customer.",
    "link_invoice_time_hash_key": "Key of invoice line and time.",
    "link_invoice_country_hash_key": "Key of invoice line and country.",
    "link_customer_country_hash_key": "Key of customer and country.",
    "InvoiceNo": "Number of the invoice; in the persistent staging area every C is removed.",
    "Invoice": "Number of the invoice as published: C is a cancellation, A an adjustment.",
    "StockCode": "The shop's code of the product.",
    "Description": "What the line calls the product.",
    "Quantity": "Pieces; below zero for what came back.",
    "InvoiceDate": "When the invoice was made, by the publisher's clock; called UTC.",
    "UnitPrice": "Pounds sterling for a piece.",
    "TotalAmount": "Pounds sterling, quantity times price.",
    "CustomerID": "Number of the customer; in the persistent staging area 0 where missing.",
    "Country": "Name of the country, as published.",
    "ReturnStatus": "Return where the invoice begins with C or the quantity is negative.",
    "LineNumber": "Which of the lines with this hub_invoice_hash_key, from 1.",
    "Sheet": "Sheet of the workbook; empty for a dropped file.",
    "Row": "Row of the sheet or file; the header is 1.",
    "LOAD_DATETIME": "When the file landed.",
    "RECORD_SOURCE": "What the file is called.",
}

DESCRIPTIONS = (
    _TRIPS
    | _RETAIL
    | {
        "date": "The day, by the publisher's clock.",
        "serial_number": "The drive; with the day, the key.",
        "model": "The model as the publisher writes it, with or without its maker.",
        "maker": "The maker, by the model's name or part number.",
        "brand": "The brand by the original's rule: the beginning of the model, else Others.",
        "capacity_bytes": "Bytes; in silver null where the drive reported nonsense.",
        "capacity_doubtful": "Whether the reported capacity was nonsense (-1, over 1 PB).",
        "failure": "1 on the last day that a failed drive was seen working, else 0.",
        "drive_count": "Drives: on the day, on the period's last day, or seen in the year.",
        "drive_days": "Days that drives were seen, added up over the drives.",
        "drive_failures": "Drives that failed.",
        "failures": "Drives that failed.",
        "period": "month, quarter or year.",
        "period_start": "The period's first day.",
        "afr": "Failures a year for each 100 drives: 100 * failures / (drive_days / 365).",
        "afr_low": "Lower end of the rate's exact 95 % Poisson interval.",
        "afr_high": "Upper end of the rate's exact 95 % Poisson interval.",
        "month": "The partition: the month, YYYY-MM or its first day.",
        "year": "The year; the partition.",
        "passenger_count_missing": "Whether the count was missing, and is 0 for that.",
        "pickup_outside_month": "Whether the pickup lies outside the month of the file.",
        "dropoff_before_pickup": "Whether the trip ends before it begins.",
        "negative_total": "Whether less than nothing was paid.",
        "distance_over_1000_miles": "Whether the distance is over 1,000 miles.",
        "unknown_zone": "Whether pickup or dropoff lie in no zone of the lookup.",
        "location_id": "The zone's number; 0 where a trip has none.",
        "borough": "The borough, as in the lookup.",
        "zone": "The zone's name, as in the lookup.",
        "service_zone": "Which taxis may pick up there.",
        "service": "yellow, green, fhv (for hire) or fhvhv (such as Uber and Lyft).",
        "trips": "Trips whose pickup lies in the month of their file.",
        "passengers": "Passengers, as the drivers entered them.",
        "distance_miles": "Miles driven, added up.",
        "fare": "Dollars by the meter, added up.",
        "revenue": "Dollars paid in all, added up; null where the service does not say.",
        "tip_share": "Tips per dollar of revenue; only tips by card are known.",
        "month_start": "The month's first day.",
        "weekday": "1 is Monday, 7 is Sunday.",
        "hour": "The hour of the day, 0 to 23, New York's time.",
        "payment_name": "The way of payment in words.",
        "_source": "The file that the row is from: archive/member, or a dropped file.",
        "_row": "The row's line in its file: of a CSV, whose header is 1; of Parquet, from 1 on.",
        "_extracted_at": "When that file landed.",
        "_unreadable": "JSON object of the cells that could not be read; null where all could.",
    }
)
