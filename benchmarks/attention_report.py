def write_report(path):
    print(path)
