# Compiled as it stands where the twin, which needs Linux, can not be.
