"""Telling that memory is used up from any other failure."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is; torch raises plain RuntimeError where the CPU's memory is used up."""
    name = type(error).__name__
    return (
        isinstance(error, MemoryError)
        or name == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )
