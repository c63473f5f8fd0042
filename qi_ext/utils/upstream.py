"""The libraries that pip cannot be given beside the newest MuJoCo, because of what they pin themselves."""

from importlib.metadata import version

_MODULES = ("loco_mujoco", "mushroom_rl", "dm_control")


def how_to_install(error: ImportError) -> str:
    """Say how to install the library whose absence an import met, in one line; "" where it is none of these libraries."""
    name = (error.name or "").partition(".")[0]
    if name not in _MODULES:
        return ""
    dm_control = "1.0.14" if version("mujoco").startswith("2.") else "1.0.50"
    return (
        f"{name} is not installed; pip install --no-deps loco-mujoco==0.4.1 mushroom-rl==1.10.1 dm-control=={dm_control} "
        "adds what is missing"
    )
