"""Times PyIceberg on the rows that were appended to a table of the warehouse FOLDER between two snapshots: pyiceberg.py FOLDER BEFORE AFTER.

PyIceberg has no changelog. Whoever wants what was appended plans the files of both snapshots and reads those that are new.
"""

import json
import sys
import time

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import ArrowScan

folder, before, after = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def appended():
    catalog = SqlCatalog("changeproof", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    table = catalog.load_table("public.events")
    old = {task.file.file_path for task in table.scan(snapshot_id=before).plan_files()}
    scan = table.scan(snapshot_id=after)
    new = [task for task in scan.plan_files() if task.file.file_path not in old]
    return ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter).to_table(new)


times = []
for _ in range(5):
    began = time.monotonic()
    rows = appended().num_rows
    times.append(time.monotonic() - began)

print(json.dumps({"cold_s": times[0], "warm_s": min(times[1:]), "rows": rows}))
